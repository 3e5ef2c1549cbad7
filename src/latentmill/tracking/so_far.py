"""The model of a trial as it is now: the trained one, or that of its last checkpoint."""

from safetensors import SafetensorError
from safetensors.torch import load

from latentmill import registry
from latentmill.contract import Decodes, HasCodebook, Model
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.training.state import best_weights, most_bytes
from latentmill.trials.record import Record
from latentmill.trials.store import TrialStore
from latentmill.trials.study import Planned


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
        model.load_state_dict(best_weights(load(_checkpoint(store, planned.fingerprint, most_bytes(model)))))
    except (InputError, OSError, SafetensorError, RuntimeError) as error:
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
    names = store.checkpoint_names(fingerprint)
    if not names:
        raise FileNotFoundError(fingerprint)
    return store.storage.read(f"{fingerprint}/{names[-1]}", most)
