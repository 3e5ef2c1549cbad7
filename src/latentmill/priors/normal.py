"""The standard normal distribution: nothing is learned.

    p(z) = N(z; 0, I)

What the codes of a VAE are trained to follow. Those of an autoencoder follow nothing, so it misses them.
"""

from math import prod

from torch import Tensor

from latentmill.config import Settings
from latentmill.contract import Batch, Generates, HasCriterion, Model
from latentmill.densities import standard_normal_log_prob
from latentmill.draws import Noise
from latentmill.networks import Shape


class StandardNormal(Model, Generates, HasCriterion):
    """A code is the noise itself."""

    closed_form, learns = True, False

    class Config(Settings):
        pass

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width, self.criterion_draws = prod(shape), {}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        codes = batch["code"].flatten(1)
        return -standard_normal_log_prob(codes).sum(1)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return noise.unflatten(1, self.shape)
