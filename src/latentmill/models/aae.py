"""Adversarial autoencoder: a critic makes the codes of all images together follow the prior.

    autoencoder  1/2 |x - g(f(x))|^2
    critic       softplus(-D(z)) + softplus(D(f(x))),  z ~ N(0, I)
    encoder      softplus(-D(f(x)))

In place of the KL of a variational autoencoder, which is about each image, or of a discrepancy by kernels, as in a
Wasserstein autoencoder (Makhzani et al. 2016).

Adds: a critic that makes the codes of all images together follow N(0, I), so that decoded noise looks like an image.
Lacks: a likelihood, and stable training: critic and encoder work against each other.
"""

from collections.abc import Sequence
from math import prod

from torch.nn.functional import softplus

from latentmill.config import PositiveInt
from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.critics import BETAS, CodeCritic
from latentmill.networks.encoder_decoder import PlainAutoencoder, PlainConfig


class Aae(PlainAutoencoder):
    """Codes are without noise."""

    class Config(PlainConfig):
        critic: PositiveInt = 200  # units of each of the critic's two layers

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.critic = CodeCritic(prod(self.code_shape), config.critic)

    def phases(self) -> Sequence[Phase]:
        z = {"z": Draw("normal", self.code_shape)}
        return (
            Phase(Aae.loss, moves=("encoder.", "decoder."), name="autoencoder"),
            Phase(Aae.critic_loss, z, "critic", moves="critic.", betas=BETAS),
            Phase(Aae.encoder_loss, name="encoder", moves="encoder.", betas=BETAS),
        )

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": self.criterion(batch, noise)}

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        code = self.encode(batch["image"]).detach()
        return {"loss": softplus(-self.critic(noise["z"])) + softplus(self.critic(code))}

    def encoder_loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": softplus(-self.critic(self.encode(batch["image"])))}
