"""Categorical variational autoencoder: a code is a few choices of one of several classes.

    loss = -E log p(x | y) + beta(t) KL(q(z | x) || uniform),  y_d = softmax((log q_d + g_d) / temperature)

g is Gumbel noise: the largest of log q_d + g_d is a draw from q_d, and the softmax one that gradients pass (Jang et al.
2017, Maddison et al. 2017). The KL is exact, log C less the entropy of each q_d. After training choices are hard, so
trials compare by the evidence lower bound of hard draws, which does not depend on the temperature.

Adds: choices of classes in place of numbers, learned through Gumbel noise: discrete codes with a bound on the
likelihood.
Lacks: a tight bound, for choices are independent given the image; and gradients through soft choices are biased.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE, PositiveInt
from latentmill.contract import Batch, HasCriterion, Model, Phase, Terms
from latentmill.densities import kl_from_uniform
from latentmill.draws import Noise, gumbel
from latentmill.networks import NetworkConfig, Shape, decoder, encoder
from latentmill.networks.categorical import HasCategoricalPosterior
from latentmill.networks.encoder_decoder import DecodesParameters
from latentmill.networks.weighted_kl import WeightedKl, WeightedKlConfig
from latentmill.observations import ObservationName, observation


class CategoricalVae(Model, DecodesParameters, HasCategoricalPosterior, HasCriterion):
    """A code is the index of the class that each variable has chosen. The uniform prior is its own."""

    class Config(WeightedKlConfig, NetworkConfig):
        code: Literal["vector"] = "vector"
        observation: Annotated[ObservationName, NOT_SEARCHABLE] = "bernoulli"  # p(x | z)
        variables: PositiveInt = 30  # D
        entries: Annotated[int, Field(ge=2)] = 10  # C, the classes that each may choose
        temperature: Annotated[float, Field(gt=0)] = 0.5  # of choices in training: the higher, the softer

    temperature: Tensor  # ()
    one_hot: Tensor  # (C, C)

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape, self.entries = (config.variables,), config.entries
        self.noise_width = self.categorical_noise = config.variables
        self.observation = observation(config.observation)
        width = config.variables * config.entries
        self.encoder, self.decoder = encoder(config, shape, width), decoder(config, width, shape)
        self.criterion_draws = {"x": self.observation.draw(shape), "z": self.code_draw}
        self.kl = WeightedKl(config)
        self.register_buffer("temperature", torch.tensor(config.temperature))
        self.register_buffer("one_hot", torch.eye(config.entries))

    def phases(self) -> Sequence[Phase]:
        return (self.kl.phase(CategoricalVae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observation.observed(batch["image"], noise["x"])
        log_q = self.log_q(x)
        y = torch.softmax((log_q + gumbel(noise["z"])) / self.temperature, 2)
        return self.kl.terms(-self.observation.log_prob(x, self.decoder(y.flatten(1))), kl_from_uniform(log_q))

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative evidence lower bound, of which the KL is exact."""
        x = self.observation.observed(batch["image"], noise["x"])
        z, _ = self.weighed_codes(x, noise["z"][None])
        return kl_from_uniform(self.log_q(x)).sum(1) - self.log_p_x_given_z(x, z)[0]

    def log_q(self, x: Tensor) -> Tensor:
        return self.encoder(x).unflatten(1, (-1, self.entries)).log_softmax(2)

    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decoder(self.one_hot[z.long()].flatten(1))
