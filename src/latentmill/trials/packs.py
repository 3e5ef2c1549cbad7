"""Trials that one worker trains as one program, each kept as if it had been run alone."""

import time
from collections.abc import Callable, Sequence

from latentmill.memory import is_out_of_memory
from latentmill.training.loop import begin, optimise
from latentmill.training.ranks import Alone
from latentmill.trials.running import (
    Context,
    StoredProgress,
    Watch,
    keep,
    record_of,
    result_of,
    run,
    sentence,
)
from latentmill.trials.store import SETTLED
from latentmill.trials.trial import Trial, config_of, model_of

# What torch and the code of a variant raise where a batched program can't be had; each trial may still be run.
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def run_pack(asked: Sequence[Trial], context: Context, watches: Sequence[Watch]) -> None:
    """As `running.run`, of several trials whose weights have the same shapes.

    Where that takes too much memory, two halves follow one another; where it can't be done at all, each trial is run.
    """
    if len(asked) == 1:
        run(asked[0], context, watches[0])
        return
    try:
        _train(asked, context, watches)
        return
    except FAULTS as error:
        context.store.note(f"{len(asked)} trials can't be one program, so they are fewer at a time: {sentence(error)}")
        half = (len(asked) + 1) // 2 if is_out_of_memory(error) else 1
    pairs = zip(asked, watches, strict=True)
    left = [(trial, watch) for trial, watch in pairs if not _is_over(trial, context)]
    failed: list[Exception] = []
    for start in range(0, len(left), half):
        fewer, theirs = zip(*left[start : start + half], strict=True)
        try:
            run_pack(fewer, context, theirs)
        except FAULTS as error:  # it is kept; the others have their turn
            failed.append(error)
    if failed:
        raise failed[0]


def _train(asked: Sequence[Trial], context: Context, watches: Sequence[Watch]) -> None:
    images, val, store = context.images, context.val, context.store
    records = [record_of(trial, context) for trial in asked]
    members, pace = [], Pace()
    for trial, record, watch in zip(asked, records, watches, strict=True):
        checkpoints = StoredProgress(store, record["fingerprint"], watch, Alone(), pace)
        members.append(begin(model_of(trial, images), images, config_of(trial), trial.seed, checkpoints))
    for member in optimise(members, images, val, compiled=context.compiled):
        row = members.index(member)
        ended, weights = result_of(member)
        keep(store, records[row] | ended, weights)
        member.progress.release()
        watches[row].ended()


def _is_over(trial: Trial, context: Context) -> bool:
    record = context.store.find(trial.fingerprint(context.data_digest))
    return record is not None and record["status"] in (*SETTLED, "stopped")


class Pace:
    """Lets a stack keep its progress after the first epoch, and then as often as takes a tenth of its time.

    A stack of small models ends an epoch of all sooner than their files are written.
    """

    def __init__(self) -> None:
        self.epoch, self.is_due, self.spent, self.next = 0, True, 0.0, 0.0

    def __call__(self, epoch: int, save: Callable[[], None]) -> None:
        """Save a member's progress after `epoch`, if that is one to keep; all members ask in turn."""
        started = time.perf_counter()
        if epoch != self.epoch:
            self.epoch, self.is_due, self.spent = epoch, started >= self.next, 0.0
        if self.is_due:
            save()
            ended = time.perf_counter()
            self.spent += ended - started
            self.next = ended + 9 * self.spent
