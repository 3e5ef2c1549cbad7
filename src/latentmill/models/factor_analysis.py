"""Factor analysis: a few independent factors, mixed linearly, plus noise of each pixel's own strength.

    x = W z + mu + e,  z ~ N(0, I),  e ~ N(0, diag(psi))

With the same noise for all pixels it is probabilistic PCA, which ranks directions by their variance; here it is by what
pixels have in common. Fitted by expectation maximisation (Rubin & Thayer 1982); likelihood and posterior are exact.

Adds: a noise variance for each pixel, so that factors explain what pixels share, not which pixels vary most.
Lacks: nonlinearity, like probabilistic PCA: samples are still overlays.
"""

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.contract import HasLikelihood, HasPosterior, LatentConfig, LatentModel
from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob
from latentmill.networks import Shape
from latentmill.networks.factors import Factors, fitted, rotated
from latentmill.observations import Gaussian

ITERATIONS = 50


class FactorAnalysis(LatentModel, HasLikelihood, HasPosterior):
    """The linear-Gaussian latent variable model with diagonal noise."""

    closed_form = True
    mean: Tensor  # (D)
    loadings: Tensor  # (D, d)
    noise: Tensor  # (D), variances

    class Config(LatentConfig):
        floor: Annotated[float, Field(gt=0)] = 1e-3  # of the variance of a pixel's noise: some never vary in training

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.floor, self.observation = config.floor, Gaussian(linear=True)
        self.criterion_draws = {"x": self.observation.draw(shape)}
        self.register_buffer("mean", torch.zeros(prod(shape)))
        self.register_buffer("loadings", torch.zeros(prod(shape), config.latent))
        self.register_buffer("noise", torch.ones(prod(shape)))

    @property
    def factors(self) -> Factors:
        return Factors(self.mean, self.loadings, self.noise)

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        start = torch.randn(self.loadings.shape, generator=generator, device=generator.device)
        looks = self.observation.looks(examples, generator)
        (found,), _ = fitted([rotated(self.mean, 0.1 * start, self.noise)], looks, self.floor, ITERATIONS)
        self.mean.copy_(found.mean)
        self.loadings.copy_(found.loadings)
        self.noise.copy_(found.noise)

    def log_p_x(self, x: Tensor) -> Tensor:
        return self.factors.log_p(x.flatten(1))

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = self.factors.posterior(x.flatten(1))
        return mean, -self.factors.precision.log().expand_as(mean)

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        return gaussian_log_prob(x.flatten(1), z @ self.loadings.T + self.mean, self.noise.log()).sum(-1)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.observation.mean(z @ self.loadings.T + self.mean).unflatten(1, self.shape)
