"""The KL of a variational autoencoder in its loss: its weight, how that rises, and what of it costs nothing.

    beta(t) sum_j max(free_bits, KL_j)

beta(t) rises linearly from 0 in the first steps, so that codes are learned before they are squeezed (Bowman et al.
2016), once or in cycles (Fu et al. 2019: each rises in its first half). KL_j of dimension j is the mean over a batch;
below `free_bits` nothing is gained by a dimension that knows less (Kingma et al. 2016). Shapes: B rows, d dimensions.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from latentmill.config import NOT_SEARCHABLE, OnlyWith, PositiveInt, Settings
from latentmill.contract import Objective, Phase, Reduction, Terms
from latentmill.draws import Draws


class WeightedKlConfig(Settings):
    """What models with this term have among their settings."""

    beta: Annotated[float, Field(gt=0)] = 1.0  # weight of the KL
    beta_steps: Annotated[int, Field(ge=0)] = 0  # in which it rises to that from 0
    # how often, with as many steps between as in a rise
    beta_cycles: Annotated[PositiveInt, OnlyWith("beta_steps", range(1, 2**53), "at least 1")] = 1
    free_bits: Annotated[float, Field(ge=0), NOT_SEARCHABLE] = 0.0  # nats of a dimension that cost nothing


class WeightedKl(nn.Module):
    """It counts the steps itself, where beta rises. A model calls it `kl`."""

    beta: Tensor  # ()
    steps: Tensor  # (), so far
    free_nats: Tensor  # (), only where there are any

    def __init__(self, config: WeightedKlConfig) -> None:
        super().__init__()
        self.rise, self.cycles, self.has_free_bits = config.beta_steps, config.beta_cycles, config.free_bits > 0
        self.register_buffer("beta", torch.tensor(config.beta))
        if self.rise:
            self.register_buffer("steps", torch.zeros(()))
        if self.has_free_bits:
            self.register_buffer("free_nats", torch.tensor(config.free_bits))

    def forward(self, kl: Tensor) -> Tensor:
        """KL of each dimension (B, …) -> its share of the loss (B)."""
        rows = kl.flatten(1)  # (B, d)
        if self.has_free_bits:
            rows = torch.maximum(rows.mean(0), self.free_nats).expand_as(rows)
        return self.weight() * rows.sum(1)

    def weight(self) -> Tensor:
        """beta at this step: ()."""
        if not self.rise:
            return self.beta
        cycle = (self.steps / (2 * self.rise)).floor().clamp(max=self.cycles - 1)
        return self.beta * (self.steps / self.rise - 2 * cycle).clamp(max=1)

    def terms(self, reconstruction: Tensor, kl: Tensor) -> Terms:
        """Of the loss, from -E log p(x | z) (B) and the KL of each dimension (B, …); also the steps after this one."""
        terms = {"loss": reconstruction + self(kl), "reconstruction": reconstruction, "kl": kl.flatten(1).sum(1)}
        return terms | ({"kl.steps": self.steps + 1} if self.rise else {})

    def phase(self, objective: Objective, draws: Draws) -> Phase:
        """That of a loss with these terms."""
        buffers: dict[str, Reduction] = {"kl.steps": "same"} if self.rise else {}
        return Phase(objective, draws, buffers=buffers, couples_rows=self.has_free_bits)
