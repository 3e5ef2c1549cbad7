"""Conditional variational autoencoder: images of a class that is asked for.

    loss = -E_q(z|x,y) log p(x | z, y) + beta KL(q(z | x, y) || N(0, I))

The label y is one more channel of the encoder's image, learned for each class, and stands beside the code of the
decoder. With beta = 1 the loss is the negative evidence lower bound on log p(x | y) (Sohn et al. 2015).
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, HasCriterion, HasPosterior, LatentConfig, LatentModel, Phase, Terms
from latentmill.draws import Draw, Noise
from latentmill.errors import InputError
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder
from latentmill.observations import ObservationName, observation


class ConditionalVae(LatentModel, HasPosterior, HasCriterion):
    """q(z | x, y) is a Gaussian with diagonal covariance; codes say what labels do not."""

    class Config(NetworkConfig, LatentConfig):
        beta: Annotated[float, Field(gt=0)] = 1.0  # weight of the KL
        observation: Annotated[ObservationName, NOT_SEARCHABLE] = "bernoulli"  # p(x | z, y)

    is_conditional = True
    beta: Tensor  # ()
    one_hot: Tensor  # (classes, classes)

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        if classes < 2:
            raise InputError(f"a conditional model needs labels of 2 classes or more, but the data has {classes}")
        channels, height, width = shape
        self.observation = observation(config.observation)
        self.criterion_draws = {"x": self.observation.draw(shape), "z": Draw("normal", self.code_shape)}
        self.encoder = encoder(config, (channels + 1, height, width), 2 * config.latent)
        self.decoder = decoder(config, config.latent + classes, shape)
        self.planes = nn.Parameter(torch.zeros(classes, 1, height, width))
        self.register_buffer("one_hot", torch.eye(classes))
        self.register_buffer("beta", torch.tensor(config.beta))

    def phases(self) -> Sequence[Phase]:
        return (Phase(ConditionalVae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        terms = self.bound(batch, noise)
        return {"loss": terms["reconstruction"] + self.beta * terms["kl"]} | terms

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative evidence lower bound, whatever beta was trained with."""
        terms = self.bound(batch, noise)
        return terms["reconstruction"] + terms["kl"]

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(torch.cat([x, self.planes[label]], dim=1)).chunk(2, dim=1)
        return mean, log_variance

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        assert label is not None
        pixels = self._pixels(z.flatten(0, 1), label.repeat(len(z))).unflatten(0, z.shape[:2])  # (K, B, C, H, W)
        return self.observation.log_prob(x, pixels)

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.posterior(images, label)[0]

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.observation.mean(self._pixels(z, label))

    def _pixels(self, z: Tensor, label: Tensor | None) -> Tensor:
        spread = self.one_hot[label].unflatten(1, (-1, *[1] * (z.dim() - 2))).expand(-1, -1, *z.shape[2:])
        return self.decoder(torch.cat([z, spread], dim=1))
