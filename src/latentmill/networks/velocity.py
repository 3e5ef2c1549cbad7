"""A residual network of vectors that knows the time: the velocity of a flow."""

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 16  # of the sines and cosines that tell the time, up to `FASTEST` radians
FASTEST = 100.0


class Velocity(nn.Module):
    """v(z, t), of pre-normalised residual blocks to which the time is added."""

    frequencies: Tensor  # (FREQUENCIES)

    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU()) for _ in range(depth)
        )
        self.outputs = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(FASTEST), FREQUENCIES)))

    def forward(self, z: Tensor, time: Tensor, dropout: Tensor | None = None) -> Tensor:
        """(B, d), times (B), and what dropout multiplies the units by (B, depth, hidden) -> (B, d)."""
        angles = time[:, None] * self.frequencies  #                         (B, FREQUENCIES)
        when = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))  #  (B, hidden)
        x = self.first(z)
        for row, (block, output) in enumerate(zip(self.blocks, self.outputs, strict=True)):
            units = block(x + when)
            x = x + output(units if dropout is None else units * dropout[:, row])
        return self.last(x)
