"""Priors over the codes of small models, and the noise from which a pair draws images."""

from functools import cache

import numpy as np
import torch

from latentmill import registry
from latentmill.codes import Generator, drawn_codes
from latentmill.config import TrainingConfig
from latentmill.contract import Encodes, Model
from latentmill.data.batches import Batches
from latentmill.evaluation import sampling
from latentmill.training.loop import Setup, train

PRIORS = {"normal": {}, "mixture": {"components": 2}, "flow": {"hidden": 32, "depth": 1, "steps": 3}}
TRAINING = TrainingConfig(epochs=2, batch_size=250)


def fitted(name: str, codes: np.ndarray, val: np.ndarray, training: TrainingConfig = TRAINING, **config) -> Model:
    """A prior fitted to codes (N, …), in evaluation mode."""
    torch.manual_seed(0)
    made = registry.build("priors", name, config, codes.shape[1:])
    train(made, Setup(Batches(codes), Batches(val)), None if made.closed_form else training, seed=0)
    return made.eval()


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
        return {name: fitted(name, z[:500], z[500:], **config) for name, config in PRIORS.items()}
