"""The progress of a long computation: a bar on a terminal, elsewhere a line every few seconds."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from latentmill.heartbeat import Heartbeat, TimeLeft, duration


@dataclass
class _Phase:
    """One of several consecutive phases."""

    what: str
    started: float  # s, of a monotonic clock, as `updated`
    updated: float
    done: int = 0
    total: int = 0  # 0: unknown
    left: TimeLeft = field(default_factory=TimeLeft)

    def line(self) -> str:
        now = time.monotonic()
        doing = f"{self.done:,} of {self.total:,} {self.what}" if self.total else self.what
        left = self.left.shown(self._estimate(now))
        return f"{doing} ({duration(now - self.started)} so far)" if left is None else f"{doing}, {duration(left)} left"

    def _estimate(self, now: float) -> float | None:
        """Seconds; None where too little is done, or the present step takes longer than the rest should."""
        if not 0 < self.done < self.total or self.updated == self.started:
            return None
        left = (self.updated - self.started) * (self.total - self.done) / self.done - (now - self.updated)
        return left if left > 0 else None


class Progress:
    """Within the block, `update(what, done, total)` updates what is shown: how much is done, and the time left.

    `what` names the first phase, before the first update.
    """

    def __init__(self, what: str) -> None:
        now = time.monotonic()
        self.phase = _Phase(what, now, now)
        console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self.task = self.bar.add_task(what, total=None) if self.bar else None
        self.shown = self.bar or Heartbeat(lambda: self.phase.line())

    def __enter__(self) -> Self:
        self.shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shown.__exit__(kind, error, trace)

    def update(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done; a new `what` begins a new phase."""
        now = time.monotonic()
        begins = what != self.phase.what
        if begins:
            self.phase = _Phase(what, now, now)
        self.phase.done, self.phase.total, self.phase.updated = done, total, now
        if self.bar and self.task is not None:
            if begins:
                self.bar.reset(self.task, description=what)
            self.bar.update(self.task, completed=done, total=total)
