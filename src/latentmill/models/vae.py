"""Variational autoencoder, and with beta other than 1 the beta-VAE.

    loss = -E_q(z|x) log p(x | z) + beta KL(q(z | x) || N(0, I))

With beta = 1 this is the negative evidence lower bound (Kingma & Welling 2014); a larger beta trades reconstruction
for codes that follow the prior more closely (Higgins et al. 2017). Schedules of beta, and free bits, are in
networks/weighted_kl.py. A weight `perceptual` above 0 adds

    + perceptual C H W d(image, E[x | z])

with a distance d that keeps the details which the likelihood of independent pixels blurs.

Adds: a distribution of codes for each image, held near N(0, I), so that decoded noise looks like an image.
Lacks: sharpness: pixels are independent given the code, so whatever the code leaves open is averaged into blur.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.features.perceptual import PerceptualDistance
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from latentmill.networks.weighted_kl import WeightedKl, WeightedKlConfig


class Vae(EncoderDecoder):
    """q(z | x) is a Gaussian with diagonal covariance, reparameterised."""

    class Config(WeightedKlConfig, EncoderDecoderConfig):
        perceptual: Annotated[float, Field(ge=0), NOT_SEARCHABLE] = 0.0  # weight of the distance in layers

    details: Tensor  # (), the weight of the perceptual distance times the number of pixels

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.perceptual = PerceptualDistance(shape) if config.perceptual else None
        self.kl = WeightedKl(config)
        self.register_buffer("details", torch.tensor(config.perceptual * prod(shape)))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        if self.perceptual:
            self.perceptual.fit(examples, generator)

    def phases(self) -> Sequence[Phase]:
        return (self.kl.phase(Vae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x, z, kl = self.observed_and_encoded(batch, noise)
        pixels = self.decoder(z)  # once, for both terms
        terms = self.kl.terms(-self.observation.log_prob(x, pixels), kl)
        if self.perceptual:
            distance = self.details * self.perceptual(batch["image"], self.observation.mean(pixels))
            terms |= {"loss": terms["loss"] + distance, "perceptual": distance}
        return terms
