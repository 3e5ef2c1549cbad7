"""The training loop: one path for every variant; a closed-form one is given no epochs."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.draws import Generator
from latentmill.training.team import Alone, Forward, Team
from latentmill.variant import Variant

Row = dict[str, float]  # an epoch's mean terms, prefixed train_ and val_, in nats per image
VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like
STEPS_BETWEEN_CHECKS = 50  # of the loss on a GPU, where looking at it waits for the device; on a CPU every step


class DivergedError(ArithmeticError):
    """A loss became NaN or infinite."""

    def __init__(self, value: float, step: int, last_finite_loss: float | None) -> None:
        """`step` counts batches from 1, over all epochs."""
        super().__init__(f"the loss must be finite, but got {value} at step {step} after {last_finite_loss}")
        self.step, self.last_finite_loss = step, last_finite_loss


@dataclass(frozen=True)
class Fitted:
    """What training left behind, besides the weights."""

    history: list[Row]  # one row an epoch; empty for a closed-form variant
    best_epoch: int  # the one whose weights were kept, from 1; 0 for a closed-form variant
    criterion: float  # the variant's criterion on the validation images, in nats per image


@dataclass
class Progress:
    """Where an optimisation stands after an epoch: all that it needs to go on as if it had never been interrupted."""

    model: Variant
    forward: Forward  # the model's, or that of the team that trains it
    optimiser: torch.optim.Optimizer
    order: torch.Generator  # of the images
    noise: torch.Generator
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0  # spent so far, in every run of the trial

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def best_loss(self) -> float:
        return self.history[self.best_epoch - 1]["val_loss"] if self.history else math.inf

    def add(self, row: Row) -> None:
        """Take in an epoch's row; keeps the weights if they are the best yet."""
        best_loss = self.best_loss
        self.history.append(row)
        if row["val_loss"] < best_loss:
            self.best_epoch, self.best_weights = self.epoch, copy.deepcopy(self.model.state_dict())


class Checkpoints(Protocol):
    """Where the loop tells of its progress, and finds that of an earlier run of the same trial."""

    def restore(self, progress: Progress) -> None:
        """Bring a fresh `progress` to where an earlier run was, if there was one."""

    def after_epoch(self, progress: Progress) -> None:
        """May raise, to stop the trial."""


class NoCheckpoints:
    """For a run that nobody watches and nothing interrupts."""

    def restore(self, progress: Progress) -> None: ...

    def after_epoch(self, progress: Progress) -> None: ...


def train(
    model: Variant,
    images: Batches,
    val: Batches,
    config: TrainingConfig | None,
    seed: int,
    checkpoints: Checkpoints | None = None,
    team: Team | None = None,
) -> Fitted:
    """Fit `model` to `images`; `config` is None for a closed-form variant, `team` for a worker that is alone.

    Raises:
        DivergedError: a loss is not finite.
    """
    noise = torch.Generator(images.device).manual_seed(seed)
    model.before_training(images, noise)
    history, best_epoch = [], 0
    if config:
        optimiser = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        team = team or Alone()
        progress = Progress(model, team.forward_of(model), optimiser, torch.Generator().manual_seed(seed), noise)
        optimise(progress, images, val, config, checkpoints or NoCheckpoints(), team)
        history, best_epoch = progress.history, progress.best_epoch
    model.eval()
    model.after_training(images, val, noise)
    return Fitted(history, best_epoch, validate(model.criterion, val))


def optimise(
    progress: Progress, images: Batches, val: Batches, config: TrainingConfig, checkpoints: Checkpoints, team: Team
) -> None:
    """Adam until the validation loss stops falling; leaves the weights of the best epoch."""
    model = progress.model
    checkpoints.restore(progress)
    while not is_over(progress, len(images), config):
        terms = train_epoch(progress, images, config.batch_size, team)
        val_loss = validate(lambda batch, noise: model(batch, noise)["loss"], val)
        if not math.isfinite(val_loss):
            raise DivergedError(val_loss, (progress.epoch + 1) * steps_an_epoch(len(images), config), terms["loss"])
        progress.add({f"train_{name}": value for name, value in terms.items()} | {"val_loss": val_loss})
        checkpoints.after_epoch(progress)
    model.load_state_dict(progress.best_weights)


def is_over(progress: Progress, images: int, config: TrainingConfig) -> bool:
    """Whether the epochs, the steps or the patience are used up."""
    return progress.epoch >= epochs_allowed(images, config) or progress.epoch - progress.best_epoch >= config.patience


def epochs_allowed(images: int, config: TrainingConfig) -> int:
    """The epoch that reaches `max_steps` is the last."""
    return min(config.epochs, math.ceil(config.max_steps / steps_an_epoch(images, config)))


def steps_an_epoch(images: int, config: TrainingConfig) -> int:
    return math.ceil(images / config.batch_size)


def train_epoch(progress: Progress, images: Batches, batch_size: int, team: Team) -> Row:
    """One pass over `images` in an order drawn from `progress.order`; returns the mean of each term.

    Raises:
        DivergedError: the loss of a step is not finite.
    """
    progress.model.train()
    totals: dict[str, Tensor] = {}
    watch = LossWatch(progress, images, batch_size)
    for indices in images.epoch(batch_size, progress.order):
        part = team.part(indices, progress.noise)
        terms = progress.forward(images[part.indices], part.noise)
        progress.optimiser.zero_grad()
        team.scaled(terms["loss"], part).backward()
        means = {name: team.mean(value, part) for name, value in terms.items()}
        watch.see(means["loss"])
        progress.optimiser.step()
        for name, value in means.items():
            totals[name] = totals.get(name, 0) + value * len(indices)
    watch.check()
    return {name: float(total) / len(images) for name, total in totals.items()}


class LossWatch:
    """Ends a trial whose loss is no longer finite."""

    def __init__(self, progress: Progress, images: Batches, batch_size: int) -> None:
        self.step = progress.epoch * math.ceil(len(images) / batch_size)
        self.last: float | None = progress.history[-1]["train_loss"] if progress.history else None
        self.every = 1 if images.device.type == "cpu" else STEPS_BETWEEN_CHECKS
        self.unseen: list[Tensor] = []

    def see(self, loss: Tensor) -> None:
        self.unseen.append(loss)
        if len(self.unseen) >= self.every:
            self.check()

    def check(self) -> None:
        for value in torch.stack(self.unseen).tolist() if self.unseen else []:
            self.step += 1
            if not math.isfinite(value):
                raise DivergedError(value, self.step, self.last)
            self.last = value
        self.unseen.clear()


@torch.no_grad()
def validate(term: Callable[[Tensor, Generator], Tensor], val: Batches) -> float:
    """The mean of `term` over the validation images, under noise that is the same at every call."""
    noise = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
    return sum(float(term(batch, noise)) * len(batch) for batch in val.chunks()) / len(val)
