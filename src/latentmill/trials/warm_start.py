"""Warm starts: a trial begins with the weights that an earlier run has left of its entry or prior.

Its fingerprint has the digest of these weights, so its result depends on nothing else that lies about. A prior has
learned the codes of one model, so it starts warm only if its model starts with that one's weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from latentmill import registry
from latentmill.contract import Encodes, HasCodebook, Model
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.storage import Storage
from latentmill.trials.earlier import records
from latentmill.trials.record import parse_record, require_digest
from latentmill.trials.study import folder
from latentmill.trials.trained_model import WEIGHTS
from latentmill.trials.trial import Trial

Shapes = Mapping[str, tuple[int, ...]]  # of weights and buffers, by name


@dataclass(frozen=True)
class Earlier:
    """A trained model of an earlier run."""

    model: str
    weights: str  # their digest
    parent_weights: str | None  # for a prior: the digest of those of its model
    shapes: Shapes


class WarmStart:
    """The models below `train.warm_start`; can be sent to other processes, which must see that folder or URL."""

    def __init__(self, url: str, shape: Shape, classes: int) -> None:
        """`shape` is that of an image, `classes` the number of labels, of the present data.

        Raises:
            InputError: there is no model, or one is damaged.
        """
        self.storage, self.shape, self.classes = Storage(url), shape, classes
        self.earlier = {name: self._earlier(name, content) for name, content in records(self.storage).items()}
        self._shapes: dict[str, Shapes] = {}  # of the weights of trials, by what decides them

    def start(self, study: str, trial: Trial, parent: Trial | None = None) -> tuple[str | None, str]:
        """The digest of the weights that a trial of `study` begins with, if any, and a note; `parent` is a prior's."""
        found = self.earlier.get(folder(study))
        if trial.training is None:
            return None, "starts cold: a closed form"
        if found is None or found.model != trial.model:
            return None, f"starts cold: {self._where(study)} has no {trial.model}"
        if parent and found.parent_weights != parent.start:
            return (
                None,
                f"starts cold: {self._where(study)} learned codes of weights that its model does not start with",
            )
        if found.shapes != self._shapes_of(trial, parent):
            return None, f"starts cold: {self._where(study)} has weights of other shapes"
        return found.weights, f"starts with the weights in {self._where(study)}"

    def weights(self, digest: str) -> dict[str, Tensor]:
        """The weights and buffers that have this digest.

        Raises:
            InputError: they are not there any more, or damaged.
        """
        names = [name for name, each in self.earlier.items() if each.weights == digest]
        return self._load(names[0], {"weights_sha256": digest})

    def _where(self, study: str) -> str:
        return self.storage.below(folder(study))

    def _earlier(self, name: str, content: bytes) -> Earlier:
        where = self.storage.below(name)
        record = parse_record(content, where)
        shapes = {key: tuple(value.shape) for key, value in self._load(name, record).items()}
        try:
            return Earlier(
                record["trial"]["model"], record["weights_sha256"], record.get("parent_weights_sha256"), shapes
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{where} must have the record of a trained model, but {error!r}") from None

    def _load(self, name: str, record: Mapping[str, object]) -> dict[str, Tensor]:
        where = self.storage.below(f"{name}/{WEIGHTS}")
        try:
            content = self.storage.read(f"{name}/{WEIGHTS}")
            require_digest(content, dict(record), where)
            return load_tensors(content)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{where} must be the weights of a model, but {error!r}") from None

    def _shapes_of(self, trial: Trial, parent: Trial | None) -> Shapes:
        """Those of the weights of a trial, of which one of each kind is built."""
        kind = str(trial.shape)
        if kind not in self._shapes:
            state = self._built(trial, parent).state_dict()
            self._shapes[kind] = {name: tuple(value.shape) for name, value in state.items()}
        return self._shapes[kind]

    def _built(self, trial: Trial, parent: Trial | None) -> Model:
        with torch.random.fork_rng(devices=[]):
            if parent is None:
                return registry.build("models", trial.model, trial.config, self.shape, self.classes)
            model = self._built(parent, None)
            assert isinstance(model, Encodes)
            entries = model.entries if isinstance(model, HasCodebook) else 0
            return registry.build("priors", trial.model, trial.config, model.code_shape, self.classes, entries)


@dataclass(frozen=True)
class Start:
    """What a trial begins with."""

    weights: Mapping[str, Tensor]
    built: Mapping[str, Tensor]  # the buffers of its model before it was fitted
    fitted: bool  # whether to replace what `fit` makes, too

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], trial: Trial, model: Model) -> Self:
        """`model` is the trial's, before `fit`.

        That of a prior finds the scale of the present codes, in which its trials are compared; that of a model may draw
        what its parameters then build on, such as the codebook of `vq`.
        """
        return cls(weights, {name: value.clone() for name, value in model.named_buffers()}, trial.family == "models")

    @torch.no_grad()
    def load_into(self, model: Model) -> None:
        """Replace all that is learned in a model that `fit` has prepared for its first step.

        A buffer that `fit` leaves alone and no step changes is a hyperparameter, and keeps the trial's own value.
        """
        learned = {name for phase in model.phases() for name in phase.buffers}
        for name, value in model.state_dict().items():
            is_parameter = name not in self.built
            if is_parameter or name in learned or (self.fitted and not torch.equal(value, self.built[name])):
                value.copy_(self.weights[name])
