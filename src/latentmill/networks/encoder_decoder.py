"""Models that encode images and decode their codes, but for their loss: variational autoencoders, and plain ones."""

from abc import abstractmethod
from typing import Annotated

import torch
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, Decodes, HasBound, HasCriterion, HasPosterior, LatentConfig, LatentModel
from latentmill.densities import half_squared_error
from latentmill.draws import Noise
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder
from latentmill.observations import ObservationName, observation


class PlainConfig(NetworkConfig, LatentConfig):
    """Of every such model."""


class EncoderDecoderConfig(PlainConfig):
    """Of those with a posterior."""

    observation: Annotated[ObservationName, NOT_SEARCHABLE] = "bernoulli"  # p(x | z)


class DecodesParameters(HasBound, Decodes):
    """p(x | z) is an observation model, whose parameters are decoded from a code."""

    @abstractmethod
    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes (B, …) -> parameters of p(x | z) (B, C, H, W)."""

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        labels = None if label is None else label.repeat(len(z))
        return self.observation.log_prob(x, self.pixel_parameters(z.flatten(0, 1), labels).unflatten(0, z.shape[:2]))

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.observation.mean(self.pixel_parameters(z, label))


class EncoderDecoder(LatentModel, DecodesParameters, HasPosterior, HasCriterion):
    """q(z | x) is a Gaussian of independent dimensions. Trials compare by the evidence lower bound, not by the loss."""

    def __init__(
        self, config: EncoderDecoderConfig, shape: Shape, classes: int = 0, planes: int = 0, beside: int = 0
    ) -> None:
        """The encoder sees so many `planes` beside the channels, the decoder so many numbers `beside` the code."""
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        self.observation = observation(config.observation)
        self.criterion_draws = {"x": self.observation.draw(shape), "z": self.code_draw}
        self.encoder = encoder(config, (shape[0] + planes, *shape[1:]), 2 * config.latent)
        self.decoder = decoder(config, config.latent + beside, shape)

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative evidence lower bound."""
        terms = self.bound(batch, noise)
        return terms["reconstruction"] + terms["kl"]

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decoder(z)


class PlainNetworks(LatentModel):
    """The outputs of the decoder are the logits of grey values."""

    def __init__(self, config: PlainConfig, shape: Shape, classes: int = 0, outputs: int = 1) -> None:
        """The encoder has so many `outputs` for each number of a code."""
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        self.encoder = encoder(config, shape, outputs * config.latent)
        self.decoder = decoder(config, config.latent, shape)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))


class PlainAutoencoder(PlainNetworks, HasCriterion):
    """Codes are without noise. Trials compare by the error of reconstruction alone, not by the loss."""

    def __init__(self, config: PlainConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.criterion_draws = {}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """Half the squared error, summed over pixels: -log N(x; g(f(x)), I) up to a constant."""
        return self.error(batch["image"], self.encode(batch["image"]))

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.encoder(images)

    def error(self, images: Tensor, z: Tensor) -> Tensor:
        """Of images (B, C, H, W) from what is decoded of codes (B, …): (B)."""
        return half_squared_error(images, self.decode(z))
