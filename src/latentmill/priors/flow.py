"""Flow matching: a learned velocity carries noise to codes along nearly straight lines.

    loss = |v((1 - t) z0 + t z1, t, y) - (z1 - z0)|^2 / d,  z0 ~ N(0, I),  z1 a code,  y its label,  t in (0, 1)
    sample: dz/dt = v(z, t, y) from t = 0 to 1, in a fixed number of steps of Heun's method

Lipman et al. 2023, with logit-normal times in training (Esser et al. 2024). Codes are standardised. For guidance, the
label is left out of some examples in training (Ho & Salimans 2022).
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE, PositiveInt, Settings
from latentmill.contract import Batch, Guides, HasCriterion, Model, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Draw, Noise, kept
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.networks.config import OF_CONVOLUTIONS, OF_MLP
from latentmill.networks.velocity import Velocity, carried, field

SMALLEST_DEVIATION, LEFT_OUT = 1e-3, 0.1  # of a dimension that hardly varies; share of the labels


class Flow(Model, Guides, HasCriterion):
    """The flow of the velocity v(z, t, y), or v(z, t) where labels are ignored or the data has none."""

    class Config(Settings):
        network: Literal["mlp", "conv"] = "mlp"  # conv is only for codes that are images
        hidden: Annotated[PositiveInt, OF_MLP] = 512  # mlp: units
        channels: Annotated[PositiveInt, OF_CONVOLUTIONS] = 64  # conv: of its layers
        depth: PositiveInt = 4  # residual blocks
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of the units of a block
        steps: PositiveInt = 8  # of sampling, each two evaluations of the network
        # whether a class can be asked for, and how strongly it is followed
        labels: Annotated[Literal["ignored", "learned", "guided"], NOT_SEARCHABLE] = "ignored"

    mean: Tensor  # (d), of the codes
    deviation: Tensor  # (d)
    share: Tensor  # (), of the units that dropout keeps

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width, self.steps = prod(shape), config.steps
        self.criterion_draws = {"start": Draw("normal", (self.noise_width,)), "time": Draw("uniform", ())}
        self.is_conditional, self.no_label = classes > 1 and config.labels != "ignored", classes
        self.is_guided = self.is_conditional and config.labels == "guided"
        is_mlp = config.network == "mlp"
        if not is_mlp and len(shape) == 1:
            raise InputError("a flow's network must be mlp for codes that are vectors, but got conv")
        units = config.hidden if is_mlp else config.channels
        self.units = Draw("bits", (config.depth, units))
        labels = classes + self.is_guided if self.is_conditional else 0
        self.velocity = Velocity((self.noise_width,) if is_mlp else shape, units, config.depth, labels)
        self.register_buffer("share", torch.tensor(1 - config.dropout))
        self.register_buffer("mean", torch.zeros(self.noise_width))
        self.register_buffer("deviation", torch.ones(self.noise_width))

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        codes = torch.cat([chunk.flatten(1) for chunk in examples.chunks()])
        self.mean.copy_(codes.mean(0))
        self.deviation.copy_(codes.std(0, correction=0).clamp(min=SMALLEST_DEVIATION))

    def phases(self) -> Sequence[Phase]:
        draws = {"start": self.criterion_draws["start"], "time": Draw("normal", ()), "units": self.units}
        return (Phase(Flow.loss, draws | ({"label": Draw("uniform", ())} if self.is_guided else {})),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        label, dropout = batch.get("label"), kept(noise["units"], self.share)
        if self.is_guided:
            label = batch["label"].masked_fill(noise["label"] < LEFT_OUT, self.no_label)
        return {"loss": self._error(batch["code"], noise["start"], torch.sigmoid(noise["time"]), label, dropout)}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The loss at times that are uniform, without dropout, with all labels."""
        return self._error(batch["code"], noise["start"], noise["time"], batch.get("label"))

    def generate(self, noise: Tensor, label: Tensor | None = None, guidance: Tensor | None = None) -> Tensor:
        z = carried(noise, field(self.velocity, label, guidance, self.no_label), self.steps)
        return (z * self.deviation + self.mean).unflatten(1, self.shape)

    def _error(self, codes: Tensor, start: Tensor, time: Tensor, *given: Tensor | None) -> Tensor:
        end, t = (codes.flatten(1) - self.mean) / self.deviation, time[:, None]
        return (self.velocity((1 - t) * start + t * end, time, *given) - (end - start)).square().mean(1)
