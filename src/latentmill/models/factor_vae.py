"""FactorVAE: a variational autoencoder whose dimensions a critic can't tell from independent ones.

    loss = -E_q log p(x | z) + KL(q(z | x) || N(0, I)) + gamma TC,  TC = log D(z) - log (1 - D(z))
    critic: D(z) is the probability that z is a code of an image, not one whose dimensions are of different images

The total correlation TC of the codes is that density ratio (Kim & Mnih 2018).

Adds: a critic that estimates how dependent the dimensions of the code are, and a penalty on what it finds.
Lacks: a reliable estimate, because the critic lags behind the codes; samples stay blurred.
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
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

BETAS = (0.5, 0.9)  # of Adam, for the critic


class FactorVae(EncoderDecoder):
    """The critic sees codes of a batch, and the same with each dimension in an order of its own."""

    class Config(EncoderDecoderConfig):
        gamma: Annotated[float, Field(ge=0)] = 10.0  # weight of the total correlation
        critic: PositiveInt = 200  # units of each of the critic's two layers

    gamma: Tensor  # ()

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.critic = CodeCritic((prod(self.code_shape), config.critic, config.critic))
        self.register_buffer("gamma", torch.tensor(config.gamma))

    def phases(self) -> Sequence[Phase]:
        orders = {**self.criterion_draws, "order": Draw("uniform", (prod(self.code_shape),))}
        own = ("encoder.", "decoder.", "observation.")
        return (
            Phase(FactorVae.loss, self.criterion_draws, moves=own),
            Phase(FactorVae.critic_loss, orders, "critic", moves="critic.", betas=BETAS, couples_rows=True),
        )

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x, z, kl = self.observed_and_encoded(batch, noise)
        reconstruction, correlation = -self.observation.log_prob(x, self.decoder(z)), self.critic(z)
        kl = kl.flatten(1).sum(1)
        loss = reconstruction + kl + self.gamma * correlation
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "total_correlation": correlation}

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        z = self.observed_and_encoded(batch, noise)[1].detach().flatten(1)
        independent = z.gather(0, noise["order"].argsort(0))
        return {"loss": softplus(-self.critic(z)) + softplus(self.critic(independent))}
