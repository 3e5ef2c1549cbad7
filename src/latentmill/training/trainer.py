"""What trains the trials of a pack, step by step; as a rule the pack is one trial.

A step runs the phases of the model in turn. Each is a pure function of the state (parameters and buffers), a batch and
noise; to train one trial, several as one program, or one on several ranks are three ways to map it.

Shapes: M members of the pack, B rows of a batch, C, H, W image.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latentmill.contract import HasCriterion, Model, Phase, Terms
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise, drawn
from latentmill.training.averages import Averages, Weights, averaged
from latentmill.training.noise import NoiseAhead
from latentmill.training.schedule import factor
from latentmill.training.state import TrainingState

VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like


class Trainer(ABC):
    """Of members whose weights have the same shapes, all after the same number of epochs."""

    members: list[TrainingState]
    phases: Sequence[Phase]
    averages: Averages | None  # of the members' weights, if one asks for them

    def __init__(self, members: Sequence[TrainingState]) -> None:
        self.members, self.phases = list(members), members[0].model.phases()
        self._noise = NoiseAhead(self.members)
        self._steps = _steps(self.members)

    def step(self, examples: Batches, indices: Indices) -> Terms:
        """Every phase that is due, on the examples at `indices` (M, B); the mean terms of each member (M), detached.

        `loss` is the sum of the phases' losses. Where there are several, the terms of a phase have its name before.
        """
        step, rates = next(self._steps)
        noise, found, losses = self._noise.next(indices.shape[1]), dict[str, Tensor](), list[Tensor]()
        for phase in self.phases:
            if step % phase.every == 0:
                own = {name: noise[phase.name, name] for name in phase.draws}
                terms = self._move(phase, examples, indices, own, [rate * phase.rate for rate in rates])
                losses.append(terms["loss"])
                found |= {f"{phase.name}_{name}" if phase.name else name: value for name, value in terms.items()}
        if self.averages:
            self.averages.update(step)
        return found if "loss" in found else found | {"loss": torch.stack(losses).sum(0)}

    @abstractmethod
    def _move(self, phase: Phase, examples: Batches, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        """A phase's step, at the learning rate of each member; its mean terms (M), detached."""

    @abstractmethod
    def criteria(self, val: Batches) -> list[float]:
        """Of each member, the mean criterion over the validation examples."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Leave the optimiser's state with the members, to be kept with their weights; noise is left for no other."""

    @abstractmethod
    def _averages_of(self, row: int) -> Weights:
        """The averages of a member's weights; empty where it has none."""

    def distances(self, distance: Callable[[Model], float]) -> list[float]:
        """Of each member, what `distance` says of its model."""
        found = []
        for row, member in enumerate(self.members):
            with averaged(member.model, self._averages_of(row)):
                found.append(distance(member.model))
        return found


def _steps(members: Sequence[TrainingState]) -> Iterator[tuple[int, list[float]]]:
    """The numbers of the steps to come, from 0 over all epochs, and the learning rate of each member in them."""
    configs, an_epoch = [member.config for member in members], members[0].steps_an_epoch
    allowed = [member.epochs_allowed * an_epoch for member in members]
    constant = all(config.schedule == "constant" and not config.warmup for config in configs)
    rates = [config.learning_rate for config in configs]
    for step in itertools.count(members[0].epoch * an_epoch):
        if not constant:
            factors = (factor(config, step, steps) for config, steps in zip(configs, allowed, strict=True))
            rates = [config.learning_rate * each for config, each in zip(configs, factors, strict=True)]
        yield step, rates


def compiled_function(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """On a GPU as CUDA graphs, which cost one launch a step."""
    torch.compiler.reset()  # a worker trains one pack at a time, and of many shapes torch compiles only the first eight
    compiled: Callable[..., Any] = torch.compile(
        function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None
    )
    return compiled


def precision(member: TrainingState, device: torch.device) -> torch.autocast:
    """Networks compute in the precision that the trial asks for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=member.config.precision == "bfloat16")


def moved_by(phase: Phase, weights: Mapping[str, Tensor]) -> Weights:
    """The parameters that a phase moves."""
    return {name: weight for name, weight in weights.items() if name.startswith(phase.moves)}


@torch.no_grad()
def validate(model: Model, val: Batches) -> float:
    """The mean criterion over the validation examples, under noise that is the same at every call."""
    assert isinstance(model, HasCriterion)
    generator, total = torch.Generator(val.device).manual_seed(VALIDATION_SEED), 0.0
    for part in val.slices():
        batch = val.batch(part)
        total += float(model.criterion(batch, drawn(model.criterion_draws, len(batch[val.name]), generator)).sum())
    return total / len(val)
