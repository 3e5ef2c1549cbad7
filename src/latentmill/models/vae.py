"""Variational autoencoder, and with beta other than 1 the beta-VAE.

    loss = -E_q(z|x) log p(x | z) + beta KL(q(z | x) || N(0, I))

With beta = 1 this is the negative evidence lower bound (Kingma & Welling 2014); a larger beta trades reconstruction
for codes that follow the prior more closely (Higgins et al. 2017). A weight `perceptual` above 0 adds

    + perceptual C H W d(image, E[x | z])

with a distance d that keeps the details which the likelihood of independent pixels blurs.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, HasCriterion, HasPosterior, LatentConfig, LatentModel, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Draw, Noise
from latentmill.features.perceptual import PerceptualDistance
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder
from latentmill.observations import ObservationName, observation


class Vae(LatentModel, HasPosterior, HasCriterion):
    """q(z | x) is a Gaussian with diagonal covariance, reparameterised."""

    class Config(NetworkConfig, LatentConfig):
        beta: Annotated[float, Field(gt=0)] = 1.0  # weight of the KL
        observation: Annotated[ObservationName, NOT_SEARCHABLE] = "bernoulli"  # p(x | z)
        perceptual: Annotated[float, Field(ge=0), NOT_SEARCHABLE] = 0.0  # weight of the distance in layers

    beta: Tensor  # ()
    details: Tensor  # (), the weight of the perceptual distance times the number of pixels

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        self.observation = observation(config.observation)
        self.criterion_draws = {"x": self.observation.draw(shape), "z": Draw("normal", self.code_shape)}
        self.encoder = encoder(config, shape, 2 * config.latent)
        self.decoder = decoder(config, config.latent, shape)
        self.perceptual = PerceptualDistance(shape) if config.perceptual else None
        self.register_buffer("beta", torch.tensor(config.beta))
        self.register_buffer("details", torch.tensor(config.perceptual * prod(shape)))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        if self.perceptual:
            self.perceptual.fit(examples, generator)

    def phases(self) -> Sequence[Phase]:
        return (Phase(Vae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x, z, kl = self.observed_and_encoded(batch, noise)
        pixels = self.decoder(z)  # once, for both terms
        terms = {"reconstruction": -self.observation.log_prob(x, pixels), "kl": kl}
        loss = terms["reconstruction"] + self.beta * kl
        if self.perceptual:
            terms["perceptual"] = self.details * self.perceptual(batch["image"], self.observation.mean(pixels))
            loss = loss + terms["perceptual"]
        return {"loss": loss} | terms

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative evidence lower bound, whatever beta was trained with."""
        terms = self.bound(batch, noise)
        return terms["reconstruction"] + terms["kl"]

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        pixels = self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # (K, B, C, H, W)
        return self.observation.log_prob(x, pixels)

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.posterior(images)[0]

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.observation.mean(self.decoder(z))
