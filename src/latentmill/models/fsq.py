"""Autoencoder with finite scalar quantisation: a code is a small image of indices, each of a few small whole numbers.

    loss = 1/2 |x - g(q(f(x)))|^2,  q(y)_i = 2 round((L_i - 1) sigmoid(y_i)) / (L_i - 1) - 1

Each place of f(x) has as many numbers as there are L_i; q rounds each to one of L_i levels from -1 to 1. So there is a
codebook of prod L_i entries that need not be learned (Mentzer et al. 2024, here symmetric around 0). The gradient of
rounding is taken to be 1.

Adds: discrete codes on a fixed grid, whose joint distribution an autoregressive prior learns: samples can be sharp and
diverse.
Lacks: a likelihood of images, and samples without that prior, which draws one index after another.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.quantised import QuantisedAutoencoder, QuantisedConfig

Level = Annotated[int, Field(ge=2)]


class Fsq(QuantisedAutoencoder):
    """Encoder f and decoder g, between which numbers are rounded; a prior draws the indices of codes."""

    class Config(QuantisedConfig):
        levels: Annotated[list[Level], Field(min_length=1, default_factory=lambda: [8, 5, 5, 5])]  # of each number

    steps: Tensor  # (d, 1, 1), of each number: its levels less 1
    places: Tensor  # (d, 1, 1), what a step of each number adds to the index

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        levels, latent = config.levels, len(config.levels)
        super().__init__(config, shape, classes, latent)
        self.entries = prod(levels)
        self.register_buffer("steps", torch.tensor(levels)[:, None, None] - 1.0)
        self.register_buffer("places", torch.tensor([float(prod(levels[:i])) for i in range(latent)])[:, None, None])

    def phases(self) -> Sequence[Phase]:
        return (Phase(Fsq.loss),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": self.criterion(batch, noise)}

    def nearest(self, y: Tensor) -> Tensor:
        return (self.rounded(y) * self.places).sum(1)

    def entries_at(self, indices: Tensor) -> Tensor:
        return self._scaled(self.levels_at(indices))

    def quantised(self, y: Tensor) -> Tensor:
        return self._scaled(self.rounded(y))

    def levels_at(self, indices: Tensor) -> Tensor:
        """The levels, counted from 0, that indices (B, h, w) stand for: (B, d, h, w)."""
        return torch.div(indices[:, None], self.places, rounding_mode="floor") % (self.steps + 1)

    def rounded(self, y: Tensor) -> Tensor:
        """Any numbers (B, d, h, w) -> levels, counted from 0."""
        exact = self.steps * torch.sigmoid(y)
        return exact + (exact.round() - exact).detach()

    def _scaled(self, levels: Tensor) -> Tensor:
        return 2 * levels / self.steps - 1
