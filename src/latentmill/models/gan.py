"""Generative adversarial network: a critic learns to tell images from samples, the generator to mislead it.

    critic      softplus(-D(x)) + softplus(D(G(z))) + gamma/2 |grad D(x)|^2
    generator   softplus(-D(G(z))),  z ~ N(0, I)

The non-saturating loss of Goodfellow et al. 2014, with the gradient penalty R1 on images (Mescheder et al. 2018), which
lets the critic calm down where samples are like images. There is no likelihood and no encoder; a GAN may drop modes.

Adds: a critic in place of an error for each pixel, so that samples are sharp.
Lacks: a likelihood, a code for a given image, and any guarantee of variety: it may drop modes.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.contract import Batch, Decodes, Generates, LatentConfig, Model, Phase, Terms
from latentmill.draws import Draw, Noise
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder
from latentmill.networks.critics import BETAS, mean_score, slope_penalty


class Gan(Model, Generates, Decodes):
    """G(z) is an image; its code is the noise z itself."""

    class Config(NetworkConfig, LatentConfig):
        gamma: Annotated[float, Field(ge=0)] = 1.0  # weight of the gradient penalty

    gamma: Tensor  # ()

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        self.noise_width = prod(self.code_shape)
        self.generator = decoder(config, config.latent, shape)
        self.critic = encoder(config, shape, 1)
        self.register_buffer("gamma", torch.tensor(config.gamma))

    def phases(self) -> Sequence[Phase]:
        z = {"z": Draw("normal", self.code_shape)}
        return (
            Phase(Gan.critic_loss, z, "critic", moves="critic.", betas=BETAS),
            Phase(Gan.generator_loss, z, "generator", moves="generator.", betas=BETAS),
        )

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch["image"]
        penalty = slope_penalty(self._score, images)
        real, fake = self._score(images), self._score(self.decode(noise["z"]))
        loss = softplus(-real) + softplus(fake) + self.gamma * penalty
        return {"loss": loss, "real": real, "fake": fake, "penalty": penalty}

    def generator_loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": softplus(-self._score(self.decode(noise["z"])))}

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decode(noise.unflatten(1, self.code_shape))

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.generator(z))

    def _score(self, images: Tensor) -> Tensor:
        return mean_score(self.critic(images))
