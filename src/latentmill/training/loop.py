"""The training loop: one path for every variant, for one trial or a stack of them; a closed form has no epochs."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.training.endings import DivergedError, EndedError, LossWatch
from latentmill.training.ranks import Team
from latentmill.training.stack import stack
from latentmill.training.state import Progress, Row, steps_an_epoch
from latentmill.training.step import Stack, validate


@dataclass(frozen=True)
class Fitted:
    """What training left behind, besides the weights."""

    history: list[Row]  # one row an epoch; empty for a closed-form variant
    best_epoch: int  # the one whose weights were kept, from 1; 0 for a closed-form variant
    criterion: float  # the variant's criterion on the validation images, in nats per image


class Checkpoints(Protocol):
    """Where the loop tells of a trial's progress, and finds that of an earlier run of the same trial."""

    def restore(self, progress: Progress) -> None:
        """Bring a fresh `progress` to where an earlier run was, if there was one."""

    def after_epoch(self, progress: Progress) -> None:
        """May raise `EndedError`, to stop the trial."""


class NoCheckpoints:
    """For a run that nobody watches and nothing interrupts."""

    def restore(self, progress: Progress) -> None: ...

    def after_epoch(self, progress: Progress) -> None: ...


@dataclass(eq=False)
class Member:
    """A trial in training."""

    progress: Progress
    checkpoints: Checkpoints
    ended: EndedError | None = None  # why it is over before its time


def train(
    model: Model,
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
        EndedError: `checkpoints` ended it.
    """
    if config is None:
        model.before_training(images, torch.Generator(images.device).manual_seed(seed))
        criterion = validate(model.eval(), val)
        if not math.isfinite(criterion):
            raise DivergedError(criterion, 0, None)
        return Fitted([], 0, criterion)
    member = begin(model, images, config, seed, checkpoints)
    for _ in optimise([member], images, val, team):
        pass
    return fitted(member)


def complete(model: Model, images: Batches, val: Batches, seed: int) -> None:
    """Fit what needs the trained weights, so that the model is ready for use."""
    model.eval()
    model.after_training(images, val, torch.Generator(images.device).manual_seed(seed))


def begin(
    model: Model, images: Batches, config: TrainingConfig, seed: int, checkpoints: Checkpoints | None = None
) -> Member:
    """A trial before its first epoch, or after the last one that an earlier run kept."""
    noise = torch.Generator(images.device).manual_seed(seed)
    model.before_training(images, noise)
    member = Member(Progress(model, config, torch.Generator().manual_seed(seed), noise), checkpoints or NoCheckpoints())
    member.checkpoints.restore(member.progress)
    return member


def fitted(member: Member) -> Fitted:
    """What became of a trial whose epochs are over; its model has the weights of the best.

    Raises:
        EndedError: it was over before its time.
    """
    if member.ended:
        raise member.ended
    progress = member.progress
    progress.model.load_state_dict(progress.best_weights)
    progress.model.eval()
    return Fitted(progress.history, progress.best_epoch, progress.best_loss)


def optimise(
    members: Sequence[Member], images: Batches, val: Batches, team: Team | None = None, compiled: bool = False
) -> Iterator[Member]:
    """Train members whose weights have the same shapes, and yield each when it is over; steps may be `compiled`.

    Those that have come equally far are one stack; the others, which an interruption has left behind, go one after
    the other.
    """
    for _, alike in itertools.groupby(sorted(members, key=_epoch), key=_epoch):
        yield from _optimise(list(alike), images, val, team, compiled)


def _epoch(member: Member) -> int:
    return member.progress.epoch


def _optimise(
    members: list[Member], images: Batches, val: Batches, team: Team | None, compiled: bool
) -> Iterator[Member]:
    """Adam until the validation loss of each stops falling."""
    trained: Stack | None = None
    started = 0.0
    while True:
        over = [member for member in members if member.ended or member.progress.is_over(len(images))]
        yield from over
        members = [member for member in members if member not in over]
        if not members:
            return
        if trained is None or over:
            trained = None  # its memory, before there is another
            trained = stack([member.progress for member in members], team, compiled)
            compiled = False  # once: to compile anew for each that leaves would take longer than it saves
            started = time.perf_counter()
        train_epoch(trained, members, images, val)
        ended = time.perf_counter()
        for member in members:
            member.progress.seconds += (ended - started) / len(members)
            _keep(member)
        started = ended


def _keep(member: Member) -> None:
    if not member.ended:
        try:
            member.checkpoints.after_epoch(member.progress)
        except EndedError as ended:
            member.ended = ended.with_traceback(None)  # whose frames would keep all members in memory


def train_epoch(trained: Stack, members: Sequence[Member], images: Batches, val: Batches) -> None:
    """One pass over `images` and one over `val`; each member's progress has one more row, or says why it has not."""
    watch = LossWatch(trained, images)
    means = train_steps(trained, images, watch)
    for row, member in enumerate(members):
        member.ended = watch.diverged.get(row)
    if all(member.ended for member in members):
        return
    for progress in trained.members:
        progress.model.eval()  # dropout or batch statistics would falsify what trials are compared by
    criteria = trained.criteria(val)
    trained.end_epoch()
    for row, member in enumerate(members):
        if not member.ended and not math.isfinite(criteria[row]):
            steps = (member.progress.epoch + 1) * steps_an_epoch(len(images), member.progress.config)
            member.ended = DivergedError(criteria[row], steps, means[row]["loss"])
        if not member.ended:
            added = {f"train_{name}": value for name, value in means[row].items()}
            member.progress.add(added | {"val_loss": criteria[row]})


def train_steps(trained: Stack, images: Batches, watch: LossWatch) -> list[Row]:
    """One pass over `images`, each member in an order of its own; the mean of each term, a row a member."""
    totals: dict[str, Tensor] = {}
    for progress in trained.members:
        progress.model.train()
    batch_size = trained.members[0].config.batch_size
    for indices in images.epoch(batch_size, [progress.order for progress in trained.members]):  # (M, B)
        terms = trained.step(images, indices)
        if watch.see(terms["loss"]):
            break
        for name, value in terms.items():
            totals[name] = totals.get(name, 0) + value * indices.shape[1]
    watch.check()
    sums = {name: total.tolist() for name, total in totals.items()}
    return [{name: total[row] / len(images) for name, total in sums.items()} for row in range(len(trained.members))]
