"""A trained model on disk: `model.safetensors` for the weights, `trial.json` for all that is said about it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from latentmill import variants
from latentmill.errors import InputError
from latentmill.files import write_json
from latentmill.nets import ImageShape
from latentmill.variant import Variant

WEIGHTS, RECORD = "model.safetensors", "trial.json"


@dataclass(frozen=True)
class TrainedModel:
    """A model ready for use, in evaluation mode, and its record."""

    model: Variant
    record: dict[str, Any]  # as `trials.run` wrote it: fingerprint, trial, criterion, history, …

    @property
    def image_shape(self) -> ImageShape:
        channels, height, width = self.record["image_shape"]
        return channels, height, width


def save(folder: Path, model: Variant, record: dict[str, Any]) -> None:
    """Write the weights and the record, with the weights' digest added, into an existing folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    write_json(folder / RECORD, record | {"weights_sha256": _digest(folder / WEIGHTS)})


def read_record(folder: Path) -> dict[str, Any]:
    """The record beside the weights in `folder`.

    Raises:
        InputError: a file is missing or damaged.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        intact = record["weights_sha256"] == _digest(folder / WEIGHTS)
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise InputError(f"{folder} must hold {WEIGHTS} and {RECORD}, but {error!r}") from None
    if not intact:
        raise InputError(f"{folder / WEIGHTS} must have the digest that {RECORD} names, but it has another")
    return record


def load(folder: Path) -> TrainedModel:
    """Rebuild the model that `save` wrote into `folder`.

    Raises:
        InputError: a file is missing or damaged, or the variant no longer fits the weights.
    """
    record = read_record(folder)
    trial = record["trial"]
    model = variants.build(trial["variant"], trial["model"], tuple(record["image_shape"]))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder} must fit the variant {trial['variant']}, but {error}") from None
    return TrainedModel(model.eval(), record)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
