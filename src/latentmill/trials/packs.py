"""Packed trials: one worker trains them together, and each is stored as if it had been trained alone."""

import time
from collections.abc import Callable, Sequence

from latentmill.errors import error_line
from latentmill.memory import is_out_of_memory
from latentmill.training.endings import EndedError
from latentmill.training.loop import begin, fitted, optimise
from latentmill.training.member import Member
from latentmill.training.ranks import Ranks, SingleRank
from latentmill.trials.record import Record
from latentmill.trials.running import (
    Context,
    StoredCheckpoints,
    Watch,
    finished_record,
    new_record,
    parent_weights,
    run,
    save_result,
)
from latentmill.trials.store import SETTLED
from latentmill.trials.trained_model import weights_bytes
from latentmill.trials.trial import Trial

# What torch and the code of a model raise where trials can't be packed; each may still be trained alone.
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def run_pack(trials: Sequence[Trial], context: Context, watches: Sequence[Watch], ranks: Ranks | None = None) -> None:
    """As `running.run`, for several trials whose weights have the same shapes; `ranks` are those of a single trial.

    Where memory is too small, the pack is halved; where trials can't be packed at all, each is trained alone.
    """
    if len(trials) == 1:
        run(trials[0], context, watches[0], ranks)
        return
    try:
        _train(trials, context, watches)
        return
    except FAULTS as error:
        context.store.note(f"{len(trials)} trials can't be packed, so they are fewer at a time: {error_line(error)}")
        size = (len(trials) + 1) // 2 if is_out_of_memory(error) else 1
    pairs = zip(trials, watches, strict=True)
    left = [(trial, watch) for trial, watch in pairs if not _is_over(trial, context)]
    failed: list[Exception] = []
    for start in range(0, len(left), size):
        some_trials, some_watches = zip(*left[start : start + size], strict=True)
        try:
            run_pack(some_trials, context, some_watches)
        except FAULTS as error:  # stored already; the others are trained first
            failed.append(error)
    if failed:
        raise failed[0]


def _train(trials: Sequence[Trial], context: Context, watches: Sequence[Watch]) -> None:
    store, parent = context.store, context.parent(trials[0])  # which the others share
    setup = context.setup(trials[0], parent=parent)
    records = [new_record(trial, context) | parent_weights(parent) for trial in trials]
    members, throttle = [], CheckpointThrottle()
    for trial, record, watch in zip(trials, records, watches, strict=True):
        model, config = trial.build_model(setup.examples, context.classes), trial.training_config
        start = context.start(trial, model)
        checkpoints = StoredCheckpoints(store, record, watch, SingleRank(), throttle, start)
        members.append(begin(model, setup, config, trial.seed, checkpoints))
    for member in optimise(members, setup):
        row = members.index(member)
        result, weights = _result(member)
        save_result(store, records[row] | result, weights)
        member.state.release()
        watches[row].ended()


def _result(member: Member) -> tuple[Record, bytes | None]:
    try:
        found = fitted(member)
    except EndedError as error:
        return error.record, None
    return finished_record(member.state.model, found), weights_bytes(member.state.model)


def _is_over(trial: Trial, context: Context) -> bool:
    record = context.store.find(trial.fingerprint(context.data_digest))
    return record is not None and record["status"] in (*SETTLED, "pruned")


class CheckpointThrottle:
    """Makes a pack save checkpoints after the first epoch, and then so often that they take a tenth of its time.

    A pack of small models ends an epoch sooner than its files are written.
    """

    def __init__(self) -> None:
        self.epoch, self.is_due, self.spent, self.next = 0, True, 0.0, 0.0

    def __call__(self, epoch: int, save: Callable[[], None]) -> None:
        """Save a member's checkpoint after `epoch` if one is due; called by all members in turn."""
        started = time.perf_counter()
        if epoch != self.epoch:
            self.epoch, self.is_due, self.spent = epoch, started >= self.next, 0.0
        if self.is_due:
            save()
            ended = time.perf_counter()
            self.spent += ended - started
            self.next = ended + 9 * self.spent
