"""The time left of a sweep, estimated from the trials so far."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from latentmill.trials.record import Record
from latentmill.trials.study import Planned


@dataclass
class Run:
    """A trial that trains or has trained; a closed form counts as one epoch."""

    planned: Planned
    began: float
    epoch: int = 0
    allowed: int = 1
    ended: float | None = None

    def seconds(self, now: float) -> float:
        return (now if self.ended is None else self.ended) - self.began


class Pace:
    """Measures seconds per epoch of each entry, the share of the allowed epochs used, and trials at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.runs = clock, dict[str, Run]()  # by fingerprint

    def started(self, planned: Planned) -> None:
        self.runs[planned.fingerprint] = Run(planned, self.clock(), allowed=planned.epochs or 1)

    def progressed(self, planned: Planned, epoch: int, epochs: int) -> None:
        run = self.runs[planned.fingerprint]
        run.epoch, run.allowed = epoch, epochs

    def ended(self, planned: Planned, record: Record) -> None:
        run = self.runs.get(planned.fingerprint)
        if run:
            run.ended, run.epoch = self.clock(), len(record.get("history", [])) or max(1, run.epoch)

    def seconds_left(self, missing: Iterable[Planned], unplanned: int) -> float | None:
        """Until all `missing` trials and the `unplanned` ones have trained; None without a pace."""
        now, runs = self.clock(), list(self.runs.values())
        known = [run for run in runs if run.epoch]
        if not known or now <= known[0].began:
            return None
        left = [self._left(planned, known, now) for planned in missing]
        left += [sum(left) / len(left)] * unplanned if left else []
        at_a_time = sum(run.seconds(now) for run in runs) / (now - min(run.began for run in runs))
        return max(sum(left) / max(1.0, at_a_time), max(left, default=0.0))

    def _left(self, planned: Planned, known: list[Run], now: float) -> float:
        similar = [run for run in known if run.planned.entry == planned.entry] or known
        epoch_seconds = sum(run.seconds(now) for run in similar) / sum(run.epoch for run in similar)
        over = [run for run in similar if run.ended is not None]
        used = sum(run.epoch for run in over) / sum(run.allowed for run in over) if over else 1.0
        run = self.runs.get(planned.fingerprint) or Run(planned, now, allowed=planned.epochs or 1)
        return max(0.0, used * run.allowed - run.epoch) * epoch_seconds
