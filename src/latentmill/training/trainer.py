"""Training steps of a pack, which may be a single trial.

A step runs the phases of the model in turn. Each is a pure function of the state (parameters and buffers), a batch and
noise. A single trial, a pack and a data-parallel group are three ways to map it.

Shapes: M members of the pack, B rows of a batch, C, H, W image.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latentmill.contract import Batch, HasCriterion, Model, Phase, Terms
from latentmill.data.augmentation import augmented
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Draws, Noise, drawn
from latentmill.training.adam import Adam, PackedAdam
from latentmill.training.averages import Averages, Weights, averages_in_place
from latentmill.training.noise import AUGMENT, NoiseAhead
from latentmill.training.schedule import factor
from latentmill.training.state import TrainingState

VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like


class Trainer(ABC):
    """Trains members whose weights have the same shapes, all at the same epoch."""

    members: list[TrainingState]
    phases: Sequence[Phase]
    averages: Averages | None  # of the members' weights; None where no member has `ema`
    _adams: Mapping[str, Adam | PackedAdam]  # by phase

    def __init__(self, members: Sequence[TrainingState]) -> None:
        self.members, self.phases = list(members), members[0].model.phases()
        self._noise = NoiseAhead(self.members)
        self._steps = _steps(self.members)

    def step(self, examples: Batches, indices: Indices) -> Terms:
        """Run every phase that is due on the examples at `indices` (M, B); returns the mean terms (M), detached.

        `loss` is that of the phase without a name, or else the sum of all that were due. The name of a phase precedes
        those of its terms.
        """
        step, rates = next(self._steps)
        noise, found, losses = self._noise.next(indices.shape[1]), dict[str, Tensor](), list[Tensor]()
        batch = self._batch(examples, indices, {name: noise[AUGMENT, name] for name in self.members[0].config.augment})
        for phase in self.phases:
            if phase.is_due(step, self.members[0].epoch):
                own = {name: noise[phase.name, name] for name in phase.draws}
                terms = self._update(phase, batch, indices, own, [rate * phase.rate for rate in rates])
                losses.append(terms["loss"])
                found |= {f"{phase.name}_{name}" if phase.name else name: value for name, value in terms.items()}
        if self.averages:
            self.averages.update(step)
        return found if "loss" in found else found | {"loss": torch.stack(losses).sum(0)}

    @abstractmethod
    def _batch(self, examples: Batches, indices: Indices, noise: Noise) -> Batch:
        """The examples at `indices` (M, B), augmented by their noise (M, B, …)."""

    @abstractmethod
    def _update(self, phase: Phase, batch: Batch, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        """A step of one phase, at the members' learning rates (M); returns its mean terms (M), detached."""

    @abstractmethod
    def _member_averages(self, row: int) -> Weights:
        """The averages of a member's weights; empty without `ema`."""

    def criteria(self, val: Batches) -> list[float]:
        """The mean criterion of each member over the validation examples."""
        return self.evaluate(lambda model: validate(model, val))

    def evaluate(self, measure: Callable[[Model], float]) -> list[float]:
        """`measure` of each member's model."""
        values = []
        for row, member in enumerate(self.members):
            with averages_in_place(member.model, self._member_averages(row)):
                values.append(measure(member.model))
        return values

    def end_epoch(self) -> None:
        """Store the moments and averages in the members' states, and drop the noise that is left."""
        for row, member in enumerate(self.members):
            moments = {phase.name: self._adams[phase.name].member_moments(row) for phase in self.phases}
            member.moments = {f"{phase}/{name}": each for phase in moments for name, each in moments[phase].items()}
            member.averages = self._member_averages(row)
        self._noise.clear()


def _steps(members: Sequence[TrainingState]) -> Iterator[tuple[int, list[float]]]:
    """The number of each step to come, counted from 0 over all epochs, and the learning rate of each member."""
    configs, an_epoch = [member.config for member in members], members[0].steps_an_epoch
    allowed = [member.epochs_allowed * an_epoch for member in members]
    constant = all(config.schedule == "constant" and not config.warmup for config in configs)
    rates = [config.learning_rate for config in configs]
    for step in itertools.count(members[0].epoch * an_epoch):
        if not constant:
            factors = (factor(config, step, steps) for config, steps in zip(configs, allowed, strict=True))
            rates = [config.learning_rate * value for config, value in zip(configs, factors, strict=True)]
        yield step, rates


def augmented_batch(batch: Batch, noise: Noise) -> Batch:
    """A batch with its images augmented by their noise; codes have none."""
    return {**batch, "image": augmented(batch["image"], noise)} if noise else batch


def compiled_function(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """On a GPU as CUDA graphs, which cost one launch per step."""
    torch.compiler.reset()  # a worker trains one pack at a time, and of many shapes torch compiles only the first eight
    compiled: Callable[..., Any] = torch.compile(
        function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None
    )
    return compiled


def precision(member: TrainingState) -> torch.autocast:
    """Makes networks compute in the precision of the trial."""
    return torch.autocast(member.noise.device.type, torch.bfloat16, enabled=member.config.precision == "bfloat16")


def phase_parameters(phase: Phase, weights: Mapping[str, Tensor]) -> Weights:
    """The parameters that a phase moves."""
    return {name: weight for name, weight in weights.items() if name.startswith(phase.moves)}


def validate(model: Model, val: Batches) -> float:
    """The mean criterion over the validation examples, under noise that is the same at every call."""
    assert isinstance(model, HasCriterion)
    return float(mean_over(val, model.criterion_draws, model.criterion))


@torch.no_grad()
def mean_over(val: Batches, draws: Draws, criterion: Callable[[Batch, Noise], Tensor]) -> Tensor:
    """The mean over the validation examples of a criterion (…, B): (…), float64."""
    generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
    total = torch.zeros((), dtype=torch.float64, device=val.device)
    for part in val.slices():
        batch = val.batch(part)
        total = total + criterion(batch, drawn(draws, len(batch[val.name]), generator)).sum(-1)
    return total / len(val)
