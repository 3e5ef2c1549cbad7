"""Autoencoders whose codes are small images of indices into a codebook, but for that codebook.

Shapes: B rows of a batch, C, H, W image, h, w code, d numbers at each of its places.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from latentmill.contract import Batch, HasCodebook, HasCriterion, Model
from latentmill.densities import half_squared_error
from latentmill.draws import Noise
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder


class QuantisedConfig(NetworkConfig):
    """What every such model has."""

    network: Literal["residual"] = "residual"
    code: Literal["image"] = "image"


class QuantisedAutoencoder(Model, HasCodebook, HasCriterion):
    """The decoder is given entries of the codebook. Trials compare by the error of reconstruction alone."""

    def __init__(self, config: QuantisedConfig, shape: Shape, classes: int, latent: int) -> None:
        """`latent` is the d of a place."""
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, latent, shape)[1:]
        self.encoder, self.decoder = encoder(config, shape, latent), decoder(config, latent, shape)
        self.criterion_draws = {}

    @abstractmethod
    def nearest(self, y: Tensor) -> Tensor:
        """The indices of the entries nearest to y (B, d, h, w): (B, h, w)."""

    @abstractmethod
    def entries_at(self, indices: Tensor) -> Tensor:
        """The entries of indices (B, h, w), which may be floats: (B, d, h, w)."""

    def quantised(self, y: Tensor) -> Tensor:
        """The entries nearest to y, both (B, d, h, w)."""
        return self.entries_at(self.nearest(y))

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        return self.error(batch["image"], self.quantised(self.encoder(batch["image"])))

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.nearest(self.encoder(images)).float()

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(self.entries_at(z)))

    def error(self, images: Tensor, entries: Tensor) -> Tensor:
        """Of images (B, C, H, W) from what is decoded of entries (B, d, h, w): (B)."""
        return half_squared_error(images, torch.sigmoid(self.decoder(entries)))
