"""How long a sweep goes on, from the trials that have trained so far."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from latentmill.trials.study import Planned, length
from latentmill.trials.trained_model import Record


@dataclass
class Run:
    """A trial that trains or has trained; one without epochs counts as one epoch."""

    planned: Planned
    began: float
    epoch: int = 0
    allowed: int = 1
    ended: float | None = None

    def seconds(self, now: float) -> float:
        return (now if self.ended is None else self.ended) - self.began


class Pace:
    """Seconds an epoch takes in each entry, how many of the allowed epochs trials use, how many train at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.runs = clock, dict[str, Run]()  # by fingerprint

    def started(self, planned: Planned) -> None:
        self.runs[planned.fingerprint] = Run(planned, self.clock(), allowed=length(planned) or 1)

    def progressed(self, planned: Planned, epoch: int, epochs: int) -> None:
        run = self.runs[planned.fingerprint]
        run.epoch, run.allowed = epoch, epochs

    def ended(self, planned: Planned, record: Record) -> None:
        run = self.runs.get(planned.fingerprint)
        if run:
            run.ended, run.epoch = self.clock(), len(record.get("history", [])) or max(1, run.epoch)

    def seconds_left(self, missing: Iterable[Planned], unasked: int) -> float | None:
        """Until all `missing` trials, and the `unasked` that are not known yet, have trained; None without a pace."""
        now, runs = self.clock(), list(self.runs.values())
        known = [run for run in runs if run.epoch]
        if not known or now <= known[0].began:
            return None
        left = [self._left(planned, known, now) for planned in missing]
        left += [sum(left) / len(left)] * unasked if left else []
        at_a_time = sum(run.seconds(now) for run in runs) / (now - min(run.began for run in runs))
        return max(sum(left) / max(1.0, at_a_time), max(left, default=0.0))

    def _left(self, planned: Planned, known: list[Run], now: float) -> float:
        alike = [run for run in known if run.planned.entry == planned.entry] or known
        an_epoch = sum(run.seconds(now) for run in alike) / sum(run.epoch for run in alike)
        over = [run for run in alike if run.ended is not None]
        used = sum(run.epoch for run in over) / sum(run.allowed for run in over) if over else 1.0
        run = self.runs.get(planned.fingerprint) or Run(planned, now, allowed=length(planned) or 1)
        return max(0.0, used * run.allowed - run.epoch) * an_epoch
