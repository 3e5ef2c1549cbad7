"""Variational autoencoders that learn the prior of their codes together with the rest, but for that prior.

    loss = -E_q(z|x) log p(x | z) + log q(z | x) - log p(z),  z ~ q(z | x)

With p(z) fixed to N(0, I) this is the loss of a plain one, whose KL then has a closed form.
"""

from collections.abc import Sequence
from math import prod

from latentmill.contract import Batch, HasPrior, Phase, Terms
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


class OwnPriorVae(EncoderDecoder, HasPrior):
    """The KL has no closed form; it is estimated by one code of each image, so that it may be below 0."""

    def __init__(self, config: EncoderDecoderConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width = prod(self.code_shape)

    def phases(self) -> Sequence[Phase]:
        return (Phase(OwnPriorVae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        terms = self.bound(batch, noise)
        return {"loss": terms["reconstruction"] + terms["kl"]} | terms

    def bound(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observation.observed(batch["image"], noise["x"])
        z, log_p_z_over_q = self.weighed_codes(x, noise["z"][None])
        return {"reconstruction": -self.log_p_x_given_z(x, z)[0], "kl": -log_p_z_over_q[0]}
