"""A step of the trials that a worker trains as one program, whichever way it is computed.

Shapes: M members, B rows of a batch, C, H, W image.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches, Indices
from latentmill.draws import drawn
from latentmill.training.schedule import factor
from latentmill.training.state import Progress, epochs_allowed, steps_an_epoch

VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like


class Stack(ABC):
    """Trials whose weights have the same shapes, all after the same number of epochs."""

    members: list[Progress]
    _steps: Iterator[tuple[int, list[float]]] | None = None

    def _next_step(self, images: Batches) -> tuple[int, list[float]]:
        """Its number, from 0 over all epochs, and the learning rate of each member."""
        if self._steps is None:
            self._steps = _steps([member.config for member in self.members], self.members[0].epoch, len(images))
        return next(self._steps)

    @abstractmethod
    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        """A step of Adam on the images at `indices` (M, B); the terms of each member's objective, (M), detached."""

    @abstractmethod
    def criteria(self, val: Batches) -> list[float]:
        """Of each member, the mean criterion over the validation images."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Leave the optimiser's state with the members, to be kept with their weights; noise is left for no other."""


def _steps(configs: Sequence[TrainingConfig], epoch: int, images: int) -> Iterator[tuple[int, list[float]]]:
    """The numbers of the steps after `epoch` epochs, and the learning rate of each of the trials in them."""
    an_epoch = steps_an_epoch(images, configs[0])
    allowed = [epochs_allowed(images, config) * an_epoch for config in configs]
    constant = all(config.schedule == "constant" and not config.warmup for config in configs)
    rates = [config.learning_rate for config in configs]
    for step in itertools.count(epoch * an_epoch):
        if not constant:
            factors = (factor(config, step, steps) for config, steps in zip(configs, allowed, strict=True))
            rates = [config.learning_rate * each for config, each in zip(configs, factors, strict=True)]
        yield step, rates


def compiled_function(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """On a GPU as CUDA graphs, which cost one launch a step."""
    torch.compiler.reset()  # a worker has one stack at a time, and of many shapes torch compiles only the first eight
    compiled: Callable[..., Any] = torch.compile(
        function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None
    )
    return compiled


def precision(member: Progress, device: torch.device) -> torch.autocast:
    """Networks compute in the precision that the trial asks for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=member.config.precision == "bfloat16")


@torch.no_grad()
def validate(model: Model, val: Batches) -> float:
    """The mean criterion over the validation images, under noise that is the same at every call."""
    generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
    noise = (drawn(model.draws, len(batch), generator) for batch in val.chunks())
    totals = (model.criterion({"image": batch}, own).sum() for batch, own in zip(val.chunks(), noise, strict=True))
    return sum(map(float, totals)) / len(val)
