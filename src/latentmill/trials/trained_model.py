"""A trained model as files: its weights in `model.safetensors`, its record in `trial.json`.

An entry without a trained model has a `failed.json` instead.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from latentmill import registry
from latentmill.contract import Decodes, Model
from latentmill.errors import InputError
from latentmill.files import write_bytes, write_json
from latentmill.registry import Family
from latentmill.trials.record import (
    PRIORS,
    RECORD,
    Record,
    digest,
    parse_record,
    record_bytes,
    require_digest,
    weights_described,
)

WEIGHTS, FAILED = "model.safetensors", "failed.json"


@dataclass(frozen=True)
class TrainedModel:
    """A model or prior ready for use, in evaluation mode, and its record."""

    model: Model
    record: Record  # as `running.run` wrote it: fingerprint, trial, shape, criterion, history, …

    @property
    def augment(self) -> list[str]:
        """The augmentations of its training images; none for a closed form."""
        return list((self.record["trial"]["training"] or {}).get("augment", []))


@dataclass(frozen=True)
class Failure:
    """Why an entry has no model, or no evaluation."""

    reason: str
    advice: str = ""  # what to do, where running the stage again may be enough

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.reason, self.advice)))


def save(folder: Path, model: Model, record: Record) -> None:
    """Write the weights and the record into an existing folder."""
    weights = weights_bytes(model)
    write_bytes(folder / WEIGHTS, weights)
    write_bytes(folder / RECORD, record_bytes(record | weights_described(weights)))


def load(folder: Path) -> TrainedModel:
    """Rebuild the model that `save` wrote into `folder`.

    Raises:
        InputError: a file is missing or damaged, or the model's code no longer fits the weights.
    """
    record, weights = read_record(folder), _read(folder, WEIGHTS)
    require_digest(weights, record, str(folder / WEIGHTS))
    return rebuilt(record, weights, str(folder))


def read_record(folder: Path) -> Record:
    """The record of the trained model in `folder`, without its weights.

    Raises:
        InputError: it is missing or damaged.
    """
    record = parse_record(_read(folder, RECORD), str(folder / RECORD))
    if not isinstance(record.get("weights_sha256"), str):
        raise InputError(f"{folder / RECORD} must name the digest of {WEIGHTS}, but does not")
    return record


def weights_digest(folder: Path) -> str:
    """The digest of all weights in `folder`, those of a model and of its priors.

    Raises:
        InputError: a record is missing or damaged.
    """
    trained = [folder, *(path.parent for path in sorted((folder / PRIORS).glob(f"*/{RECORD}")))]
    found = {str(each.relative_to(folder)): read_record(each)["weights_sha256"] for each in trained}
    return digest(json.dumps(found, sort_keys=True).encode())


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        rule = f"{folder} must hold {WEIGHTS} and {RECORD}"
        raise InputError(f"{rule}, but reading {name}: {error.strerror}; run `dvc repro train`") from None


def require_trained_on(data_digest: str, trained: TrainedModel, where: Path) -> None:
    """Raises InputError where a model was trained on another data set, whose images may be in this one's test split."""
    if trained.record.get("data_digest") != data_digest:
        raise InputError(f"{where} must be of the prepared data, but is of others; run `dvc repro -f train`")


def save_untrained_prior(folder: Path, name: str, identity: Record) -> None:
    """Write a prior that learns nothing below the model in `folder`; `identity` is that of its trial."""
    parent, trial = load(folder), identity["trial"]
    assert isinstance(parent.model, Decodes)
    shape, classes = parent.model.code_shape, parent.record["classes"]
    record = identity | {"status": "finished", "shape": list(shape), "classes": classes}
    record |= {"parent_weights_sha256": parent.record["weights_sha256"]}
    (folder / PRIORS / name).mkdir(parents=True)
    save(folder / PRIORS / name, registry.build("priors", trial["model"], trial["config"], shape, classes), record)


def load_priors(folder: Path) -> dict[str, TrainedModel]:
    """The trained priors of the model in `folder`, by name, sorted.

    Raises:
        InputError: one is damaged, or was trained on the codes of other weights.
    """
    parent = read_record(folder)["weights_sha256"]
    found = {path.name: load(path) for path in sorted((folder / PRIORS).glob("*")) if failure(path) is None}
    for name, prior in found.items():
        if prior.record.get("parent_weights_sha256") != parent:
            rule = f"{folder / PRIORS / name} must be of the weights beside it"
            raise InputError(f"{rule}, but is of others; run `dvc repro -f train`")
    return found


def rebuilt(record: Record, weights: bytes, where: str) -> TrainedModel:
    """The model of a record and its weights.

    Raises:
        InputError: the record does not say what it is, or the model's code no longer fits it or the weights.
    """
    try:
        trial = record["trial"]
        family: Family = "models" if trial["parent"] is None else "priors"
        name, config, classes, entries = trial["model"], trial["config"], record["classes"], record.get("entries", 0)
        shape = tuple(map(int, record["shape"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} must have the record of a trained model, but {error!r}") from None
    try:
        model = registry.build(family, name, config, shape, classes, entries)
        model.load_state_dict(load_tensors(weights))
    except (SafetensorError, RuntimeError, ValidationError) as error:
        raise InputError(f"{where} must fit {name}, but {error}") from None
    return TrainedModel(model.eval(), record)


def save_failure(folder: Path, entry: str, failure: Failure, trials: list[Record]) -> None:
    """Write into an existing folder why the entry has no model, and how its trials ended."""
    write_json(folder / FAILED, {"entry": entry, **asdict(failure), "trials": trials})


def failure(folder: Path) -> Failure | None:
    """Why the entry has no model; None where it has one.

    Raises:
        InputError: the file is damaged.
    """
    try:
        found = json.loads((folder / FAILED).read_text(encoding="utf-8"))
        return Failure(str(found["reason"]), str(found.get("advice", "")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / FAILED} must say why there is no model, but {error!r}") from None


def weights_bytes(model: Model) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
