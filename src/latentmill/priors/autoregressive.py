"""Autoregressive: the indices of a code one after the other, each given those before it.

    log p(z | y) = sum_t log p(z_t | z_1 … z_{t-1}, y),  y a label

Places are read row by row, from the upper left. To draw, each place takes one number of noise n: its index is that at
which the cumulative probability exceeds Phi(n).
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from latentmill.config import NOT_SEARCHABLE, PositiveInt, Settings
from latentmill.contract import Batch, HasCriterion, IndexPrior, Phase, Terms
from latentmill.draws import Draw, Noise, kept
from latentmill.networks import Shape
from latentmill.networks.recurrent import Recurrent


class Autoregressive(IndexPrior, HasCriterion):
    """p(z | y), or p(z) where labels are ignored or the data has none."""

    class Config(Settings):
        hidden: PositiveInt = 256  # units
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # share of the units, the same at all places of an image
        # whether a class can be asked for
        labels: Annotated[Literal["ignored", "learned"], NOT_SEARCHABLE] = "ignored"

    share: Tensor  # (), of the units that dropout keeps

    def __init__(self, config: Config, shape: Shape, classes: int = 0, entries: int = 0) -> None:
        super().__init__(config, shape, classes, entries)
        self.noise_width = self.categorical_noise = prod(shape)
        self.criterion_draws = {}
        self.is_conditional = classes > 1 and config.labels == "learned"
        self.units = Draw("bits", (config.hidden,))
        self.network = Recurrent(shape, entries, config.hidden, classes if self.is_conditional else 0)
        self.register_buffer("share", torch.tensor(1 - config.dropout))

    def phases(self) -> Sequence[Phase]:
        return (Phase(Autoregressive.loss, {"units": self.units}),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": self._nats(batch, kept(noise["units"], self.share))}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """-log p(z | y), in nats per image."""
        return self._nats(batch)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        uniform = torch.special.ndtr(noise)

        def chosen(place: int, logits: Tensor) -> Tensor:
            cumulative = logits.softmax(1).cumsum(1)[:, :-1]
            return (uniform[:, place, None] > cumulative).sum(1)

        return self.network.drawn(chosen, noise, label).unflatten(1, self.shape).float()

    def _nats(self, batch: Batch, dropout: Tensor | None = None) -> Tensor:
        indices = batch["code"].flatten(1).long()
        logits = self.network(indices, batch.get("label"), dropout).float()
        return functional.cross_entropy(logits.transpose(1, 2), indices, reduction="none").sum(1)
