"""Priors over the codes of small models, and the noise from which a pair draws images."""

from functools import cache

import numpy as np
import torch

from latentmill import registry
from latentmill.codes import Generator, drawn_codes
from latentmill.config import TrainingConfig
from latentmill.contract import Encodes, HasCodebook, Model
from latentmill.data.batches import Batches
from latentmill.evaluation import sampling
from latentmill.training.loop import Setup, train

FLOW = {"hidden": 32, "channels": 8, "depth": 1, "steps": 3}
PRIORS = {"normal": {}, "mixture": {"components": 2}, "flow": FLOW, "guided_flow": FLOW | {"labels": "guided"}}
INDEX_PRIORS = {"autoregressive": {"hidden": 16}}  # of models with a codebook
TRAINING = TrainingConfig(epochs=2, batch_size=250)


Labels = tuple[np.ndarray, np.ndarray] | None  # of the codes that a prior is fitted to, and of those for validation


def fitted(
    name: str,
    codes: np.ndarray,
    val: np.ndarray,
    training: TrainingConfig = TRAINING,
    named: Labels = None,
    entries: int = 0,
    **config,
) -> Model:
    """A prior fitted to codes (N, …), in evaluation mode."""
    torch.manual_seed(0)
    own, others = named or (None, None)
    classes = 0 if own is None else int(own.max()) + 1
    made = registry.build("priors", name, config, codes.shape[1:], classes, entries)
    setup = Setup(Batches(codes, labels=own), Batches(val, labels=others))
    train(made, setup, None if made.closed_form else training, seed=0)
    return made.eval()


def fit_prior(name: str, codes: np.ndarray, val: np.ndarray, named: Labels, entries: int) -> Model:
    """One of `PRIORS` or `INDEX_PRIORS`; only those that use labels are given them."""
    config = (INDEX_PRIORS if entries else PRIORS)[name]
    own = named if "labels" in config else None
    return fitted(registered(name), codes, val, named=own, entries=entries, **config)


def registered(name: str) -> str:
    """The name of the file that has one of `PRIORS`."""
    return name.removeprefix("guided_")


def untrained_prior(model: Model) -> dict[str, Model]:
    """By its name, one that draws the codes of a model; none, where it has no codes of images."""
    if not isinstance(model, Encodes):
        return {}
    if isinstance(model, HasCodebook):
        name, entries = "autoregressive", model.entries
        return {name: registry.build("priors", name, INDEX_PRIORS[name], model.code_shape, entries=entries)}
    return {"normal": registry.build("priors", "normal", {}, model.code_shape)}


def batches(model: Model, digits: np.ndarray, labels: np.ndarray, part: slice = slice(None)) -> Batches:
    """Some of the digits, with their labels if the model needs them."""
    return Batches(digits[part], labels=labels[part] if model.is_conditional else None)


class Pairs:
    """The pairs of each small model, with priors that are fitted when first asked for."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray) -> None:
        self.digits, self.labels = digits, labels
        self.priors = cache(self._priors)

    def generators(self, model: Model) -> dict[str, Generator]:
        """By the name of the prior."""
        return sampling.generators(model, self.priors(model))

    def _priors(self, model: Model) -> dict[str, Model]:
        if not isinstance(model, Encodes):
            return {}
        images = batches(model, self.digits, self.labels)
        z = drawn_codes(model, images, torch.Generator().manual_seed(0))
        labels, entries = (self.labels[:500], self.labels[500:]), model.entries if isinstance(model, HasCodebook) else 0
        names = INDEX_PRIORS if entries else PRIORS
        return {name: fit_prior(name, z[:500], z[500:], labels, entries) for name in names}
