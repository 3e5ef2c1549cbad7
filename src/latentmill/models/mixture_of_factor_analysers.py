"""Mixture of factor analysers: several planes through the space of images, each with its own noise.

    p(x) = sum_m w_m N(x; mu_m, W_m W_m' + diag(psi_m))

Unlike one factor analyser it can follow a curved set of images, and does not blend what lies on different planes.
Fitted by expectation maximisation (Ghahramani & Hinton 1996) from random images as means; the likelihood is exact.
Samples are without the noise of pixels.

Adds: several linear models, each for one region of the data, which together follow its curvature.
Lacks: one code for all images: each region has factors of its own, and within it samples are still overlays.
"""

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import PositiveInt
from latentmill.contract import HasLikelihood, LatentConfig
from latentmill.data.batches import Batches
from latentmill.draws import selected
from latentmill.networks import Shape
from latentmill.networks.factors import Factors, fitted, log_joint
from latentmill.networks.mixtures import MixtureModel, require_enough
from latentmill.observations import Gaussian

ITERATIONS, SPREAD, VARIANCE = 30, 0.01, 0.05  # of the loadings and of the noise at the start


class MixtureOfFactorAnalysers(MixtureModel, HasLikelihood):
    """The first column of noise selects the component, the rest is z."""

    means: Tensor  # (M, D)
    loadings: Tensor  # (M, D, d)
    noise: Tensor  # (M, D), variances

    class Config(LatentConfig):
        latent: PositiveInt = 10  # factors of each component
        components: PositiveInt = 20  # planes
        floor: Annotated[float, Field(gt=0)] = 1e-3  # of the variance of a pixel's noise: some never vary in training

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes, config.components)
        self.floor, self.observation, self.noise_width = config.floor, Gaussian(linear=True), 1 + config.latent
        self.criterion_draws = {"x": self.observation.draw(shape)}
        size = (config.components, prod(shape))
        self.register_buffer("means", torch.zeros(size))
        self.register_buffer("loadings", torch.zeros(*size, config.latent))
        self.register_buffer("noise", torch.full(size, VARIANCE))

    @property
    def factors(self) -> list[Factors]:
        return [Factors(*each) for each in zip(self.means, self.loadings, self.noise, strict=True)]

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """Raises InputError: there are fewer images than components."""
        require_enough(examples, self.components)
        first = torch.randperm(len(examples), generator=generator, device=generator.device)[: self.components]
        self.means = examples[first].flatten(1)
        self.loadings = SPREAD * torch.randn(self.loadings.shape, generator=generator, device=generator.device)
        looks = self.observation.looks(examples, generator)
        found, log_weights = fitted(self.factors, looks, self.floor, ITERATIONS)
        self.weigh(log_weights)
        parts = zip(*((each.mean, each.loadings, each.noise) for each in found), strict=True)
        self.means, self.loadings, self.noise = (torch.stack(each) for each in parts)

    def log_p_x(self, x: Tensor) -> Tensor:
        return torch.logsumexp(log_joint(self.factors, self.log_weights, x.flatten(1)), 1)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        component = selected(noise, self.borders)  # (B)
        x = (self.loadings[component] @ noise[:, 1:, None])[..., 0] + self.means[component]
        return self.observation.mean(x).unflatten(1, self.shape)
