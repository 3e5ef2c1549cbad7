"""Naive Bayes: every pixel an independent coin.

    log p(x) = sum_i x_i log p_i + (1 - x_i) log(1 - p_i),  p_i = (sum_n x_ni + s) / (N + 2 s)

Maximum likelihood is the mean image; the pseudocount s keeps a pixel that never varied from having probability 0.
Bishop 2006, section 8.2.2. Its samples show what a model without correlations between pixels can do: noise around
the mean.

Adds: each pixel's own probability of being white, which is the mean image: the baseline for all other models.
Lacks: any link between pixels, so samples are noise around the mean image.
"""

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import Settings
from latentmill.contract import Generates, HasLikelihood, Model
from latentmill.data.batches import Batches
from latentmill.networks import Shape
from latentmill.observations import Bernoulli, shares_of_ones


class NaiveBayes(Model, Generates, HasLikelihood):
    """p(x) = prod_i Bernoulli(x_i; p_i), fitted to the expected counts of randomly binarised pixels."""

    closed_form = True
    logits: Tensor  # (C, H, W), of p
    thresholds: Tensor  # (C, H, W), the normal quantiles of p

    class Config(Settings):
        pseudocount: Annotated[float, Field(ge=1e-6)] = 1.0  # s: imagined black and white images, each

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.pseudocount = config.pseudocount
        self.observation = Bernoulli()
        self.criterion_draws = {"x": self.observation.draw(shape)}
        self.noise_width = prod(shape)
        self.register_buffer("logits", torch.zeros(shape))
        self.register_buffer("thresholds", torch.zeros(shape))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        p = shares_of_ones(examples, self.pseudocount)
        self.logits.copy_(torch.logit(p))
        self.thresholds.copy_(torch.special.ndtri(p))

    def log_p_x(self, x: Tensor) -> Tensor:
        return self.observation.log_prob(x, self.logits)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Pixel i is white where the noise lies below the p_i-quantile of the standard normal."""
        return (noise.unflatten(1, self.logits.shape) < self.thresholds).float()
