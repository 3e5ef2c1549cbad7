"""The model of a trial as it is now: the trained one, or that of its last checkpoint."""

from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from latentmill import registry
from latentmill.contract import Decodes, HasCodebook, Model
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.training.state import HEADER
from latentmill.trials.record import Record
from latentmill.trials.store import CHECKPOINT, TrialStore
from latentmill.trials.study import Planned

PARTS = ("best/", "average/", "model/")  # of a checkpoint, the weights that count first


class NotYetError(Exception):
    """There is no checkpoint yet, or it is just being replaced."""


def model_so_far(
    store: TrialStore, planned: Planned, record: Record, shape: Shape, classes: int, parent: Model | None = None
) -> Model:
    """Of a trial with this `record`, empty unless it has ended; for examples of a shape, or codes of `parent`.

    Raises:
        NotYetError: nothing can be read now.
    """
    try:
        if record.get("status") == "finished":
            return store.load(planned.fingerprint).model
        model = _untrained(planned, shape, classes, parent)
        content = _checkpoint(store, planned.fingerprint, 5 * sum(each.nbytes for each in model.state_dict().values()))
        found = load(content)
        weights = {name: _weight(found, name) for name in model.state_dict()}
        model.load_state_dict(weights)
    except (InputError, OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise NotYetError(str(error)) from error
    return model.eval()


def _untrained(planned: Planned, shape: Shape, classes: int, parent: Model | None) -> Model:
    trial, entries = planned.trial, 0
    if parent is not None:
        assert isinstance(parent, Decodes)
        shape, entries = parent.code_shape, parent.entries if isinstance(parent, HasCodebook) else 0
    return registry.build(trial.family, trial.model, trial.config, shape, classes, entries)


def _checkpoint(store: TrialStore, fingerprint: str, most: int) -> bytes:
    """Raises OSError where there is none."""
    names = [name for name in store.storage.names(fingerprint) if CHECKPOINT.fullmatch(name)]
    if not names:
        raise FileNotFoundError(fingerprint)
    return store.storage.read(f"{fingerprint}/{max(names)}", most + HEADER)


def _weight(found: dict[str, Any], name: str) -> Any:
    return next(found[f"{part}{name}"] for part in PARTS if f"{part}{name}" in found)
