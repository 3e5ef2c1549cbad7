"""Ladder variational autoencoder: layers of codes, each with a prior given the layer above.

    p(x, z) = p(x | z_1) p(z_1 | z_2) … p(z_L),  q(z | x) = q(z_L | x) … q(z_1 | z_2, x)
    loss = -E_q log p(x | z) + beta(t) sum_l KL(q(z_l | z_{l+1}, x) || p(z_l | z_{l+1}))

q(z_l | z_{l+1}, x) is the product of p(z_l | z_{l+1}), what the layer above expects, and of a Gaussian that the encoder
sees in x: each counts by its certainty (Sønderby et al. 2016, here with layer in place of batch normalisation).

A code is the noise of all priors, z_l = mu(z_{l+1}) + sigma(z_{l+1}) epsilon_l, so that N(0, I) draws it. This change
of variables leaves log p(z) - log q(z | x) as it is.

Adds: layers of codes, each with a prior given the layer above: a prior of more shapes, and a tighter bound.
Lacks: sharpness, for pixels are independent given the lowest layer; and upper layers may stay unused.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE, PositiveInt
from latentmill.contract import Batch, Encodes, HasCriterion, Model, Phase, Terms
from latentmill.densities import kl_from_standard_normal, reparameterised_log_prob, standard_normal_log_prob
from latentmill.draws import Noise
from latentmill.networks import NetworkConfig, Shape, decoder, encoder
from latentmill.networks.encoder_decoder import DecodesParameters
from latentmill.networks.ladder import Layers
from latentmill.networks.weighted_kl import WeightedKl, WeightedKlConfig
from latentmill.observations import ObservationName, observation


class LadderVae(Model, DecodesParameters, Encodes, HasCriterion):
    """Codes begin with the uppermost layer."""

    class Config(WeightedKlConfig, NetworkConfig):
        code: Literal["vector"] = "vector"
        observation: Annotated[ObservationName, NOT_SEARCHABLE] = "bernoulli"  # p(x | z_1)
        layers: Annotated[list[PositiveInt], Field(min_length=1, default_factory=lambda: [20, 10, 5])]  # z_1 … z_L
        units: PositiveInt = 200  # of the hidden layers between them
        beta_steps: Annotated[int, Field(ge=0)] = 1_000  # in which beta rises from 0; else upper layers stay unused

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = (sum(config.layers),)
        self.observation = observation(config.observation)
        self.criterion_draws = {"x": self.observation.draw(shape), "z": self.code_draw}
        self.encoder, self.ladder = encoder(config, shape, config.units), Layers(config.layers[::-1], config.units)
        self.decoder = decoder(config, config.layers[0], shape)
        self.kl = WeightedKl(config)

    def phases(self) -> Sequence[Phase]:
        return (self.kl.phase(LadderVae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.kl.terms(*self._bound(batch, noise))

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative evidence lower bound."""
        reconstruction, kl = self._bound(batch, noise)
        return reconstruction + kl.sum(1)

    def weighed_codes(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        epsilon, _, log_variance = self.ladder(self.encoder(x), noise)
        return epsilon, (standard_normal_log_prob(epsilon) - reparameterised_log_prob(noise, log_variance)).sum(-1)

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.ladder(self.encoder(images), images.new_zeros(self.code_shape).expand(images.shape[0], -1))[0]

    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decoder(self.ladder.lowest(z))

    def _bound(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The two parts of the negative evidence lower bound: -E_q log p(x | z) (B), and the KL (B, d)."""
        x = self.observation.observed(batch["image"], noise["x"])
        epsilon, mean, log_variance = self.ladder(self.encoder(x), noise["z"])
        kl = kl_from_standard_normal(mean, log_variance)
        return -self.observation.log_prob(x, self.pixel_parameters(epsilon)), kl
