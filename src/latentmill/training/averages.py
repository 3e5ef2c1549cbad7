"""Exponential moving averages of weights: what validation sees, and what is kept, where `trial.ema` asks for them.

Polyak & Juditsky 1992; with a decay that rises to what is asked for, so that the first weights are soon forgotten.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]  # by name


class Averages:
    """Of the `weights` of one trial, or of several that are stacked along their first dimension."""

    def __init__(self, weights: Mapping[str, Tensor], averages: Mapping[str, Tensor], decay: Tensor | float) -> None:
        """They begin at `averages`, or where there are none at the weights; `decay` is one number or, stacked, (M)."""
        self._weights = weights
        self.averages: Weights = {
            name: averages[name].to(weight.device).clone() if name in averages else weight.detach().clone()
            for name, weight in weights.items()
        }
        self._decay = torch.as_tensor(decay)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After `step`, counted from 0."""
        moved = 1 - self._decay.clamp(max=(1 + step) / (10 + step))
        for name, weight in self._weights.items():
            share = moved.to(weight.device).view((*moved.shape, *[1] * (weight.dim() - moved.dim())))
            self.averages[name].lerp_(weight, share)

    def of(self, row: int) -> Weights:
        """Those of one member of a stack, as views."""
        return {name: average[row] for name, average in self.averages.items()}


@contextmanager
def averaged(model: nn.Module, averages: Weights) -> Iterator[None]:
    """Within the block the model has these in place of its weights."""
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].data for name in averages}
    for name, value in averages.items():
        parameters[name].data = value
    try:
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value
