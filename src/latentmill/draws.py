"""All randomness of the variants: draws from a generator that is passed in.

A training step draws nothing: the model is `Asked` once what it draws, and is then given what was `Drawn` beforehand.
So several trials may be one program, and workers that share a batch see the noise that one would.

Shapes: B rows of the batch.
"""

from collections.abc import Callable, Iterable
from math import ceil

import torch
from torch import Tensor

Shape = torch.Size | tuple[int, ...]


class Asked:
    """A generator that keeps note of what is drawn from it, as functions that draw the same from another."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.draws = generator, list[Draw]()

    @property
    def device(self) -> torch.device:
        return self.generator.device


class Drawn:
    """Draws that were made beforehand, handed out in the order in which they are asked for."""

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self._draws = iter(draws)

    def next(self) -> Tensor:
        return next(self._draws)


Draw = Callable[[torch.Generator, int, int], Tensor]  # a generator, K steps of B rows -> (K, B, …)
Generator = torch.Generator | Asked | Drawn


def standard_normal(shape: Shape, generator: Generator) -> Tensor:
    """Draws from N(0, 1), (B, …), on the generator's device."""
    return _rows(lambda size, source: torch.randn(size, generator=source, device=source.device), shape, generator)


def uniform(shape: Shape, generator: Generator) -> Tensor:
    """Draws from U(0, 1), (B, …), on the generator's device."""
    return _rows(lambda size, source: torch.rand(size, generator=source, device=source.device), shape, generator)


def random_bits(shape: Shape, generator: Generator) -> Tensor:
    """16 random bits each, as int16 from -2^15 to 2^15 - 1, (B, …), on the generator's device."""
    return _rows(_bits, shape, generator)


def _bits(shape: Shape, generator: torch.Generator) -> Tensor:
    count = torch.Size(shape).numel()
    words = torch.empty(ceil(count / 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)  # None: up to the largest
    return words.view(torch.int16)[:count].view(shape)


def _rows(draw: Callable[[Shape, torch.Generator], Tensor], shape: Shape, generator: Generator) -> Tensor:
    if isinstance(generator, Drawn):
        return generator.next()
    if isinstance(generator, Asked):
        rest = shape[1:]
        generator.draws.append(lambda of, steps, rows: draw((steps * rows, *rest), of).unflatten(0, (steps, rows)))
        return draw(shape, generator.generator)
    return draw(shape, generator)
