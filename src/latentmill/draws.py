"""The noise that a model declares, and how it is drawn.

A model draws nothing: it declares the noise of each row of a batch, by name, and receives it. So trials can be packed,
and ranks that share a batch see the noise that a single worker would.

Shapes: B rows of a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

import torch
from torch import Tensor

SMALLEST = 1e-20  # of uniform noise in a logarithm: it may be 0
BYTES = {"normal": 4, "uniform": 4, "bits": 2}  # of a number


@dataclass(frozen=True)
class Draw:
    """Independent numbers for each row: from N(0, 1), from U(0, 1), or 16 random bits as int16."""

    kind: Literal["normal", "uniform", "bits"]
    shape: tuple[int, ...]  # of a row

    @property
    def bytes_a_row(self) -> int:
        return BYTES[self.kind] * prod(self.shape)

    def rows(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, *shape), on the generator's device."""
        size, device = (count, *self.shape), generator.device
        if self.kind == "normal":
            return torch.randn(size, generator=generator, device=device)
        if self.kind == "uniform":
            return torch.rand(size, generator=generator, device=device)
        return _bits(size, generator)


Draws = Mapping[str, Draw]
Noise = Mapping[str, Tensor]  # by the same names, each (B, *shape)


def drawn(draws: Draws, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Each of `draws`, in their order."""
    return {name: draw.rows(rows, generator) for name, draw in draws.items()}


def standard_normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    """Draws from N(0, 1), (B, …), on the generator's device."""
    return Draw("normal", tuple(shape[1:])).rows(shape[0], generator)


def borders(weights: Tensor) -> Tensor:
    """Quantiles of the standard normal, (M - 1), between which one of M components lies as often as its weight (M)."""
    return torch.special.ndtri(weights.cumsum(0)[:-1])


def selected(noise: Tensor, between: Tensor) -> Tensor:
    """The component, below M, that the first column of normal noise (B, …) selects by the `borders` (M - 1): (B)."""
    return (noise[:, :1] > between).sum(1)


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform noise: the largest of log p + gumbel is at an index drawn from p."""
    return -torch.log(-torch.log(uniform.clamp(min=SMALLEST)))


def kept(bits: Tensor, share: Tensor) -> Tensor:
    """The factors of dropout, from 16 random bits each: 1 / share with probability `share`, else 0."""
    return (bits.float() < (share - 0.5) * 2**16).float() / share


def _bits(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    count = prod(size)
    words = torch.empty(ceil(count / 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)  # None: up to the largest
    return words.view(torch.int16)[:count].view(size)
