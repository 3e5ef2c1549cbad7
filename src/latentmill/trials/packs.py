"""Packed trials: those that one worker trains as one program, each kept as if it had been run alone."""

import time
from collections.abc import Callable, Sequence

from latentmill.memory import is_out_of_memory
from latentmill.training.loop import begin, optimise
from latentmill.training.ranks import SingleRank
from latentmill.trials.running import (
    Context,
    StoredCheckpoints,
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


def run_pack(trials: Sequence[Trial], context: Context, watches: Sequence[Watch]) -> None:
    """As `running.run`, of several trials whose weights have the same shapes.

    Where that takes too much memory, two halves follow one another; where it can't be done at all, each is run alone.
    """
    if len(trials) == 1:
        run(trials[0], context, watches[0])
        return
    try:
        _train(trials, context, watches)
        return
    except FAULTS as error:
        context.store.note(f"{len(trials)} trials can't be packed, so they are fewer at a time: {sentence(error)}")
        half = (len(trials) + 1) // 2 if is_out_of_memory(error) else 1
    pairs = zip(trials, watches, strict=True)
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


def _train(trials: Sequence[Trial], context: Context, watches: Sequence[Watch]) -> None:
    store, setup = context.store, context.setup(trials[0])
    records = [record_of(trial, context) for trial in trials]
    members, pace = [], Pace()
    for trial, record, watch in zip(trials, records, watches, strict=True):
        checkpoints = StoredCheckpoints(store, record["fingerprint"], watch, SingleRank(), pace)
        model = model_of(trial, setup.examples, context.classes)
        members.append(begin(model, setup, config_of(trial), trial.seed, checkpoints))
    for member in optimise(members, setup):
        row = members.index(member)
        ended, weights = result_of(member)
        keep(store, records[row] | ended, weights)
        member.state.release()
        watches[row].ended()


def _is_over(trial: Trial, context: Context) -> bool:
    record = context.store.find(trial.fingerprint(context.data_digest))
    return record is not None and record["status"] in (*SETTLED, "pruned")


class Pace:
    """Lets a pack keep checkpoints after the first epoch, and then as often as takes a tenth of its time.

    A pack of small models ends an epoch of all sooner than their files are written.
    """

    def __init__(self) -> None:
        self.epoch, self.is_due, self.spent, self.next = 0, True, 0.0, 0.0

    def __call__(self, epoch: int, save: Callable[[], None]) -> None:
        """Save a member's checkpoint after `epoch`, if that is one to keep; all members ask in turn."""
        started = time.perf_counter()
        if epoch != self.epoch:
            self.epoch, self.is_due, self.spent = epoch, started >= self.next, 0.0
        if self.is_due:
            save()
            ended = time.perf_counter()
            self.spent += ended - started
            self.next = ended + 9 * self.spent
