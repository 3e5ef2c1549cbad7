"""The velocity of a flow: a residual network of codes that knows the time, and a label if need be."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from latentmill.networks.config import Shape
from latentmill.networks.residual import Attention, normalised

FREQUENCIES = 16  # of the sines and cosines that tell the time, up to `FASTEST` radians
FASTEST = 100.0


class Velocity(nn.Module):
    """v(z, t) or v(z, t, y), of pre-normalised residual blocks to which the time and the label are added.

    Vectors pass through layers of `hidden` units; images through convolutions of `hidden` channels, and in the middle
    places attend to one another.
    """

    frequencies: Tensor  # (FREQUENCIES)

    def __init__(self, shape: Shape, hidden: int, depth: int, labels: int = 0) -> None:
        """For codes of a shape; `labels` is the number of different labels, 0 where none is given."""
        super().__init__()
        self.shape, is_image = shape, len(shape) > 1
        layer: Callable[[int, int], nn.Module] = _conv if is_image else nn.Linear
        norm: Callable[[int], nn.Module] = normalised if is_image else nn.LayerNorm
        self.labels = nn.Parameter(torch.zeros(labels, hidden)) if labels else None
        self.first, self.last = layer(shape[0], hidden), layer(hidden, shape[0])
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.blocks = nn.ModuleList(nn.Sequential(norm(hidden), layer(hidden, hidden), nn.SiLU()) for _ in range(depth))
        self.outputs = nn.ModuleList(layer(hidden, hidden) for _ in range(depth))
        self.attention = Attention(hidden) if is_image else nn.Identity()  # before the second half of the blocks
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(FASTEST), FREQUENCIES)))

    def forward(self, z: Tensor, time: Tensor, label: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """Codes as rows, times and labels (B), what dropout multiplies the units by (B, depth, hidden) -> (B, d)."""
        angles = time[:, None] * self.frequencies  #                         (B, FREQUENCIES)
        when = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))  #  (B, hidden)
        if self.labels is not None:
            when = when + self.labels[label]
        x, when = self.first(z.unflatten(1, self.shape)), self._at_all_places(when)
        for row, (block, output) in enumerate(zip(self.blocks, self.outputs, strict=True)):
            if row == len(self.blocks) // 2:
                x = self.attention(x)
            units = block(x + when)
            x = x + output(units if dropout is None else units * self._at_all_places(dropout[:, row]))
        return self.last(x).flatten(1)

    def _at_all_places(self, units: Tensor) -> Tensor:
        """(B, hidden) -> (B, hidden, 1, …), with as many dimensions as codes."""
        return units.view(*units.shape, *(1 for _ in self.shape[1:]))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


Field = Callable[[Tensor, Tensor], Tensor]  # z (B, …), times (B) -> dz/dt (B, …)


def carried(z: Tensor, field: Field, steps: int) -> Tensor:
    """z (B, …), carried from t = 0 to 1 by so many steps of Heun's method, unrolled."""
    step = 1 / steps
    for number in range(steps):
        slope = field(z, z.new_full(z.shape[:1], number * step))
        ahead = field(z + step * slope, z.new_full(z.shape[:1], (number + 1) * step))
        z = z + step * (slope + ahead) / 2
    return z


def field(velocity: nn.Module, label: Tensor | None, guidance: Tensor | None, no_label: int) -> Field:
    """The velocity v(z, t, y) for labels y (B), or with weights w (B) that of classifier-free guidance:

        v(z, t) + w (v(z, t, y) - v(z, t))

    Both velocities are computed as one batch of 2B, and v(z, t) is that for `no_label` (Ho & Salimans 2022). With w = 1
    it is v(z, t, y) to the last bit.
    """
    if label is None or guidance is None:
        return lambda z, time: velocity(z, time, label)
    labels, more = torch.cat([label, torch.full_like(label, no_label)]), guidance - 1  # (2B), (B)

    def guided(z: Tensor, time: Tensor) -> Tensor:
        with_label, without = velocity(torch.cat([z, z]), torch.cat([time, time]), labels).unflatten(0, (2, -1))
        return with_label + more.view(-1, *(1 for _ in z.shape[1:])) * (with_label - without)

    return guided
