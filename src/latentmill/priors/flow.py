"""Flow matching: a learned velocity carries noise to codes along nearly straight lines.

    loss = |v((1 - t) z0 + t z1, t) - (z1 - z0)|^2 / d,  z0 ~ N(0, I),  z1 a code,  t in (0, 1)
    sample: dz/dt = v(z, t) from t = 0 to 1, in a fixed number of steps of Heun's method

Lipman et al. 2023, with logit-normal times in training (Esser et al. 2024). Codes are standardised. Sampling is
unrolled, so that it is one graph without a loop.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import PositiveInt, Settings
from latentmill.contract import Batch, Generates, HasCriterion, Model, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Draw, Noise, kept
from latentmill.networks import Shape
from latentmill.networks.velocity import Velocity

SMALLEST_DEVIATION = 1e-3  # of a dimension that hardly varies


class Flow(Model, Generates, HasCriterion):
    """The flow of the velocity v(z, t)."""

    class Config(Settings):
        hidden: PositiveInt = 512  # units
        depth: PositiveInt = 4  # residual blocks
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of the units of a block
        steps: PositiveInt = 24  # of sampling

    mean: Tensor  # (d), of the codes
    deviation: Tensor  # (d)
    share: Tensor  # (), of the units that dropout keeps

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width, self.steps = prod(shape), config.steps
        self.criterion_draws = {"start": Draw("normal", (self.noise_width,)), "time": Draw("uniform", ())}
        self.units = Draw("bits", (config.depth, config.hidden))
        self.velocity = Velocity(self.noise_width, config.hidden, config.depth)
        self.register_buffer("share", torch.tensor(1 - config.dropout))
        self.register_buffer("mean", torch.zeros(self.noise_width))
        self.register_buffer("deviation", torch.ones(self.noise_width))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        codes = torch.cat([chunk.flatten(1) for chunk in examples.chunks()])
        self.mean.copy_(codes.mean(0))
        self.deviation.copy_(codes.std(0, correction=0).clamp(min=SMALLEST_DEVIATION))

    def phases(self) -> Sequence[Phase]:
        draws = {"start": self.criterion_draws["start"], "time": Draw("normal", ()), "units": self.units}
        return (Phase(Flow.loss, draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        dropout = kept(noise["units"], self.share)
        return {"loss": self._error(batch["code"], noise["start"], torch.sigmoid(noise["time"]), dropout)}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The loss at times that are uniform, without dropout."""
        return self._error(batch["code"], noise["start"], noise["time"])

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        z, step = noise, 1 / self.steps
        for number in range(self.steps):
            slope = self.velocity(z, noise.new_full(noise.shape[:1], number * step))
            ahead = self.velocity(z + step * slope, noise.new_full(noise.shape[:1], (number + 1) * step))
            z = z + step * (slope + ahead) / 2
        return (z * self.deviation + self.mean).unflatten(1, self.shape)

    def _error(self, codes: Tensor, start: Tensor, time: Tensor, dropout: Tensor | None = None) -> Tensor:
        end, t = (codes.flatten(1) - self.mean) / self.deviation, time[:, None]
        return (self.velocity((1 - t) * start + t * end, time, dropout) - (end - start)).square().mean(1)
