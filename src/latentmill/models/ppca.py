"""Probabilistic PCA: a few independent factors, mixed linearly, plus noise.

    x = W z + mu + e,  z ~ N(0, I),  e ~ N(0, s I),  W = U (L - s)^(1/2)

U, L are the leading eigenvectors and eigenvalues of the data's covariance and s the mean of the others: the maximum
of the likelihood in closed form (Tipping & Bishop 1999). The likelihood and the posterior of z are exact.
Its samples are ghostly overlays: factors add up, they do not exclude one another.

Adds: a code of a few numbers, decoded linearly into an image, with an exact likelihood in closed form.
Lacks: nonlinearity: factors add up and never exclude one another, so samples are ghostly overlays.
"""

import math

import torch
from torch import Tensor

from latentmill.components import principal_components
from latentmill.contract import HasLikelihood, HasPosterior, LatentConfig, LatentModel
from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import DecodesParameters
from latentmill.observations import Gaussian

SMALLEST_VARIANCE = 1e-12  # of the noise: with none, as where there is hardly an image more than factors, no density


class Ppca(LatentModel, DecodesParameters, HasLikelihood, HasPosterior):
    """The linear-Gaussian latent variable model."""

    closed_form = True
    Config = LatentConfig
    mu: Tensor  # (D)
    directions: Tensor  # (D, d), U
    variances: Tensor  # (d), L
    noise_variance: Tensor  # (), s

    def __init__(self, config: LatentConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.observation: Gaussian = Gaussian(linear=True)
        self.criterion_draws = {"x": self.observation.draw(shape)}
        pixels = math.prod(shape)
        self.register_buffer("mu", torch.zeros(pixels))
        self.register_buffer("directions", torch.zeros(pixels, config.latent))
        self.register_buffer("variances", torch.ones(config.latent))
        self.register_buffer("noise_variance", torch.ones(()))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        smallest, (latent,) = min(len(examples), len(self.mu)), self.code_shape
        if latent >= smallest:
            rule = f"latent must be below the number of images and of pixels, {smallest}"
            raise InputError(f"{rule}, but got latent={latent}")
        found = principal_components(self.observation.looks(examples, generator), latent)
        noise_variance = max(found.rest, SMALLEST_VARIANCE)
        self.mu.copy_(found.mean)
        self.directions.copy_(found.directions)
        self.variances.copy_(found.variances)
        self.noise_variance.fill_(noise_variance)
        self.observation.set_variance(noise_variance)

    def log_p_x(self, x: Tensor) -> Tensor:
        """log N(x; mu, W W' + s I), by coordinates along U and the squared distance from its span."""
        centred = x.flatten(1) - self.mu
        along = centred @ self.directions  #                                       (B, d)
        off = (centred - along @ self.directions.T).square().sum(1)  #             (B)
        log_p_along = gaussian_log_prob(along, torch.zeros_like(along), self.variances.log()).sum(1)
        others = len(self.mu) - len(self.variances)
        return log_p_along - 0.5 * (off / self.noise_variance + others * torch.log(2 * math.pi * self.noise_variance))

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """N(L^-1 (L - s)^(1/2) U' (x - mu), s L^-1): diagonal, because U diagonalises W' W."""
        along = (x.flatten(1) - self.mu) @ self.directions
        mean = along * (self.variances - self.noise_variance).sqrt() / self.variances
        return mean, torch.log(self.noise_variance / self.variances).expand_as(mean)

    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        scaled = z * (self.variances - self.noise_variance).sqrt()
        return (scaled @ self.directions.T + self.mu).unflatten(1, self.shape)
