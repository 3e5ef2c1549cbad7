"""The training loop: one path for every model and prior, for one trial or a pack; a closed form has no epochs."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.training.endings import DivergedError, DivergenceCheck
from latentmill.training.member import Checkpoints, Member
from latentmill.training.packed import PackedTrainer
from latentmill.training.ranks import Ranks, SingleRank
from latentmill.training.single import SingleTrainer
from latentmill.training.state import Row, TrainingState
from latentmill.training.trainer import Trainer, validate

Distance = Callable[[Model], float]


@dataclass(frozen=True)
class Setup:
    """What the trials of a pack share."""

    examples: Batches  # for training
    val: Batches
    distance: Distance | None = None  # between samples and `val`, which ranks trials; None: the criterion does
    ranks: Ranks = field(default_factory=SingleRank)
    compiled: bool = False  # whether steps are compiled

    def evaluate(self, model: Model) -> float:
        """The number by which epochs and trials are ranked, lower first."""
        return self.distance(model) if self.distance else validate(model, self.val)


@dataclass(frozen=True)
class Fitted:
    """The result of training, besides the weights."""

    history: list[Row]  # one row per epoch; empty for a closed form
    best_epoch: int  # whose weights were kept, from 1; 0 for a closed form
    criterion: float  # on the validation examples: the mean of the model's own, or the distance of its samples
    seconds: float  # in all runs of the trial


def train(
    model: Model, setup: Setup, config: TrainingConfig | None, seed: int, checkpoints: Checkpoints | None = None
) -> Fitted:
    """Fit `model`; `config` is None for a closed form.

    Raises:
        DivergedError: a loss is not finite.
        EndedError: `checkpoints` ended it.
    """
    if config is None:
        return _fit_closed_form(model, setup, seed)
    member = begin(model, setup, config, seed, checkpoints)
    for _ in optimise([member], setup):
        pass
    return fitted(member)


def _fit_closed_form(model: Model, setup: Setup, seed: int) -> Fitted:
    started = time.perf_counter()
    model.fit(setup.examples, setup.val, torch.Generator(setup.examples.device).manual_seed(seed))
    model.eval()
    criterion = setup.evaluate(model)
    if not math.isfinite(criterion):
        raise DivergedError(criterion, 0, None)
    return Fitted([], 0, criterion, round(time.perf_counter() - started, 2))


def begin(
    model: Model, setup: Setup, config: TrainingConfig, seed: int, checkpoints: Checkpoints | None = None
) -> Member:
    """A trial before its first epoch, or after the last one of an earlier run.

    Raises:
        InputError: ranks are to share the batches of a loss that couples their rows, or the epochs end before the last
            phase begins.
    """
    if setup.ranks.size > 1 and any(phase.couples_rows for phase in model.phases()):
        rule = "ranks can't share a batch whose rows a loss couples"
        raise InputError(f"{rule}, but {setup.ranks.size} are to share those of {type(model).__name__}")
    noise = torch.Generator(setup.examples.device).manual_seed(seed)
    model.fit(setup.examples, setup.val, noise)
    state = TrainingState(model, config, torch.Generator().manual_seed(seed), noise, len(setup.examples))
    if state.epochs_allowed <= state.untrained_epochs:
        rule = f"a trial must have more than {state.untrained_epochs} epochs, after which the last phase begins"
        raise InputError(f"{rule}, but epochs and max_steps allow {state.epochs_allowed}")
    if checkpoints:
        checkpoints.restore(state)
    return Member(state, checkpoints)


def fitted(member: Member) -> Fitted:
    """The result of a trial that is over; its model gets the weights of the best epoch.

    Raises:
        EndedError: it ended early.
    """
    if member.ended:
        raise member.ended
    state = member.state
    state.model.load_state_dict(state.best_weights)
    state.model.eval()
    return Fitted(state.history, state.best_epoch, state.best_loss, round(state.seconds, 2))


def optimise(members: Sequence[Member], setup: Setup) -> Iterator[Member]:
    """Train members whose weights have the same shapes, and yield each when it is over.

    Members at the same epoch form a pack. After an interruption epochs may differ; then packs train one by one.
    """
    for _, pack in itertools.groupby(sorted(members, key=_epoch), key=_epoch):
        yield from _optimise(list(pack), setup)


def _epoch(member: Member) -> int:
    return member.state.epoch


def trainer(states: Sequence[TrainingState], setup: Setup, compiled: bool = False) -> Trainer:
    """The trainer of a pack, or of one trial, which a data-parallel group may share."""
    return SingleTrainer(states[0], setup.ranks, compiled) if len(states) == 1 else PackedTrainer(states, compiled)


def _optimise(members: list[Member], setup: Setup) -> Iterator[Member]:
    """Adam until the validation loss of each stops falling."""
    trained: Trainer | None = None
    started, compiled = 0.0, setup.compiled
    while True:
        over = [member for member in members if member.is_over]
        yield from over
        members = [member for member in members if member not in over]
        if not members:
            return
        if trained is None or over:
            trained = None  # frees its memory before the next one is built
            trained = trainer([member.state for member in members], setup, compiled)
            compiled = False  # once: to compile anew whenever a member leaves would take longer than it saves
            started = time.perf_counter()
        train_epoch(trained, members, setup)
        ended = time.perf_counter()
        for member in members:
            member.state.seconds += (ended - started) / len(members)
            if not member.ended:
                member.save()
        started = ended


def train_epoch(trained: Trainer, members: Sequence[Member], setup: Setup) -> None:
    """One pass over the examples and one over `val`; each member's history gets a row, or its `ended` is set."""
    check = DivergenceCheck(trained, setup.examples.device)
    means = train_steps(trained, setup.examples, check)
    for row, member in enumerate(members):
        member.ended = check.diverged.get(row)
    if all(member.ended for member in members):
        return
    for state in trained.members:
        state.model.eval()  # dropout or batch statistics would falsify what trials are compared by
    criteria = trained.evaluate(setup.distance) if setup.distance else trained.criteria(setup.val)
    criteria = setup.ranks.broadcast(criteria)
    trained.end_epoch()
    for row, member in enumerate(members):
        if not member.ended and not math.isfinite(criteria[row]):
            steps = (member.state.epoch + 1) * member.state.steps_an_epoch
            member.ended = DivergedError(criteria[row], steps, means[row]["loss"])
        if not member.ended:
            train_means = {f"train_{name}": value for name, value in means[row].items()}
            member.state.add(train_means | {"val_loss": criteria[row]})


def train_steps(trained: Trainer, examples: Batches, check: DivergenceCheck) -> list[Row]:
    """One pass over the examples, in each member's own order; returns the mean terms of each member."""
    totals: dict[str, Tensor] = {}
    rows: dict[str, int] = {}  # summed in each total: a phase need not run at every step
    for state in trained.members:
        state.model.train()
    batch_size = trained.members[0].config.batch_size
    for indices in examples.epoch(batch_size, [state.order for state in trained.members]):  # (M, B)
        terms = trained.step(examples, indices)
        if check.add(terms["loss"]):
            break
        for name, value in terms.items():
            totals[name] = totals.get(name, 0) + value.float() * indices.shape[1]
            rows[name] = rows.get(name, 0) + indices.shape[1]
    check.check()
    means = {name: (total / rows[name]).tolist() for name, total in totals.items()}
    return [{name: mean[row] for name, mean in means.items()} for row in range(len(trained.members))]
