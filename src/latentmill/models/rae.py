"""Regularised autoencoder: small codes and a smooth decoder in place of noise.

    loss = 1/2 |x - g(f(x))|^2 + beta/2 |f(x)|^2 + smoothness sum of the squared weights of g

Codes can't run away from one another, and a decoder of small weights changes slowly between them, which is what noise
does in a variational autoencoder (Ghosh et al. 2020). Samples need a prior that is fitted to the codes.

Adds: penalties that keep codes together and the decoder smooth, so that a prior can be fitted to the codes.
Lacks: a prior of its own and a likelihood: without the fitted prior it can't sample.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import PlainAutoencoder, PlainConfig


class Rae(PlainAutoencoder):
    """RAE-L2."""

    class Config(PlainConfig):
        beta: Annotated[float, Field(ge=0)] = 1e-2  # weight of the squared code
        smoothness: Annotated[float, Field(ge=0)] = 1e-4  # weight of the decoder's squared weights

    weights: Tensor  # (2), beta and smoothness

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.register_buffer("weights", torch.tensor([config.beta, config.smoothness]))

    def phases(self) -> Sequence[Phase]:
        return (Phase(Rae.loss),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        z = self.encode(batch["image"])
        reconstruction, size = self.error(batch["image"], z), z.flatten(1).square().sum(1)
        smoothness = torch.stack([weight.square().sum() for weight in self.decoder.parameters()]).sum()
        loss = reconstruction + 0.5 * self.weights[0] * size + self.weights[1] * smoothness
        return {"loss": loss, "reconstruction": reconstruction, "size": size}
