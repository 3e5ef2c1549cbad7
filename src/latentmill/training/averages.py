"""Exponential moving averages of weights, which are validated and kept where `trial.ema` is set.

Polyak & Juditsky 1992; the decay rises to its final value, so that the initial weights soon lose their influence.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]  # by name


class Averages:
    """Averages of the `weights` of one trial, or of a pack (M, …)."""

    def __init__(self, weights: Mapping[str, Tensor], averages: Mapping[str, Tensor], decay: Tensor | float) -> None:
        """They start from `averages`, or from the weights; `decay` is one number, or (M) for a pack."""
        self._weights = weights
        self.averages: Weights = {
            name: averages[name].to(weight.device).clone() if name in averages else weight.detach().clone()
            for name, weight in weights.items()
        }
        self._decay = torch.as_tensor(decay)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Called after `step`, counted from 0."""
        share = 1 - self._decay.clamp(max=(1 + step) / (10 + step))
        for name, weight in self._weights.items():
            expanded = share.to(weight.device).view((*share.shape, *[1] * (weight.dim() - share.dim())))
            self.averages[name].lerp_(weight, expanded)

    def member(self, row: int) -> Weights:
        """The averages of one member of a pack, as views."""
        return {name: average[row] for name, average in self.averages.items()}


@contextmanager
def averages_in_place(model: nn.Module, averages: Weights) -> Iterator[None]:
    """Within the block, the averages replace the weights of the model."""
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].data for name in averages}
    for name, value in averages.items():
        parameters[name].data = value
    try:
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value
