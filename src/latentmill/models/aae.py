"""Adversarial autoencoder (Makhzani et al. 2016): a critic makes the codes of all images together follow the prior.

    loss = 1/2 |x - g(f(x))|^2 + gamma softplus(-D(f(x)))
    critic: softplus(-D(z)) + softplus(D(f(x))),  z ~ N(0, I)

In place of the KL of a variational autoencoder, which is about each image, or of a discrepancy by kernels, as in a
Wasserstein autoencoder (Tolstikhin et al. 2018). Reconstruction and deception of the critic are one loss with one
optimiser: where the encoder takes steps of their own for each, those against the critic are as large as the others
however little there is to gain, and reconstructions are four times worse.

Adds: a critic that makes the codes of all images together follow N(0, I), so that decoded noise looks like an image.
Lacks: a likelihood, and stable training: critic and encoder work against each other.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.config import PositiveInt
from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.critics import CodeCritic
from latentmill.networks.encoder_decoder import PlainAutoencoder, PlainConfig


class Aae(PlainAutoencoder):
    """Codes are without noise."""

    class Config(PlainConfig):
        gamma: Annotated[float, Field(ge=0)] = 0.5  # weight of the loss against the critic
        critic: PositiveInt = 256  # units of the critic's hidden layer

    gamma: Tensor  # ()

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.critic = CodeCritic((prod(self.code_shape), config.critic))
        self.register_buffer("gamma", torch.tensor(config.gamma))

    def phases(self) -> Sequence[Phase]:
        z = {"z": Draw("normal", self.code_shape)}
        return Phase(Aae.loss, moves=("encoder.", "decoder.")), Phase(Aae.critic_loss, z, "critic", moves="critic.")

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        code = self.encode(batch["image"])
        reconstruction, deception = self.error(batch["image"], code), softplus(-self.critic(code))
        loss = reconstruction + self.gamma * deception
        return {"loss": loss, "reconstruction": reconstruction, "deception": deception}

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        code = self.encode(batch["image"]).detach()
        return {"loss": softplus(-self.critic(noise["z"])) + softplus(self.critic(code))}
