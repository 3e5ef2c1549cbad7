"""The display of a sweep: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from latentmill.cluster.pace import Pace
from latentmill.heartbeat import Heartbeat, TimeLeft, duration, mark_printed
from latentmill.tracking.observers import Observer
from latentmill.trials.plan import Plan
from latentmill.trials.record import FAILED, Record
from latentmill.trials.study import Planned

ROWS = 12  # running trials shown: a large pack would fill the terminal
SECONDS_BETWEEN_LINES = 5.0  # in a log; trials that end in between are counted, failures are printed at once


class Display(Observer):
    """Observes a sweep. It is a context manager, so that the terminal is restored."""

    def __init__(self, plan: Plan, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`console` is stdout, unless given."""
        self.plan, self.clock = plan, clock
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.pace, self.left = Pace(clock), TimeLeft()
        self.running: dict[str, tuple[Planned, dict[str, Any], float]] = {}
        self.best: dict[str, tuple[float, str]] = {}  # by entry: criterion, label
        self.done = self.failed = 0
        self.next_line = 0.0
        self.pending: list[str] = []
        self.shown = (
            Live(console=self.console, get_renderable=self.table, refresh_per_second=2, transient=True)
            if self.console.is_terminal
            else Heartbeat(self.summary, self._line)
        )
        for planned in plan.planned:
            self._rank(planned, plan.records.get(planned.fingerprint, {}))

    def __enter__(self) -> Self:
        self.shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shown.__exit__(kind, error, trace)
        self._print_pending()

    def started(self, planned: Planned) -> None:
        self.pace.started(planned)
        self.running[planned.fingerprint] = planned, {}, self.clock()

    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        _, _, since = self.running[planned.fingerprint]
        self.running[planned.fingerprint] = planned, result, since
        self.pace.progressed(planned, result["epoch"], result["epochs"])
        if not self.console.is_terminal and self.clock() >= self.next_line and not self.pending:
            progress = f"epoch {result['epoch']} of {result['epochs']}, validation loss {result['val_loss']:.4g}"
            self._line(f"{self.summary()}; {planned.label}: {progress}")

    def ended(self, planned: Planned, record: Record) -> None:
        self.running.pop(planned.fingerprint, None)
        self.done += 1
        self.pace.ended(planned, record)
        self._rank(planned, record)
        line = f"{planned.label}: {outcome_of(record)}"
        self.failed += record["status"] in FAILED
        if record["status"] in ("finished", "pruned"):
            self.pending.append(line)
            if self.console.is_terminal or self.clock() >= self.next_line:
                self._print_pending()
        else:
            self.noted(line)

    def noted(self, sentence: str) -> None:
        """Print at once: something went wrong."""
        self._print_pending()
        self._print(sentence)

    def summary(self) -> str:
        """`[3/12] 2 running, 1 failed, 40 s left`, as far as it is known."""
        parts = [f"[{self.done}/{self.done + self.plan.missing + self.plan.unplanned}] {len(self.running)} running"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """At the pace so far; None until there is one."""
        open_trials = self.plan.open
        missing = {planned.fingerprint: planned for planned in self.plan.planned if planned.fingerprint in open_trials}
        return self.left.shown(self.pace.seconds_left(missing.values(), self.plan.unplanned))

    def table(self) -> RenderableType:
        running = _table({"running": "left", "epoch": "right", "validation loss": "right", "time": "right"})
        for planned, result, since in list(self.running.values())[:ROWS]:
            epoch = f"{result['epoch']}/{result['epochs']}" if result else ""
            loss = f"{result['val_loss']:.4g}" if "val_loss" in result else ""
            running.add_row(planned.label, epoch, loss, duration(self.clock() - since))
        if len(self.running) > ROWS:
            running.add_row(f"and {len(self.running) - ROWS} more")
        best = _table({"best so far": "left", "on val": "right", "trial": "left"})
        for study, (criterion, label) in self.best.items():
            best.add_row(study, f"{criterion:.4g}", label)
        return Group(running, Text(), best, Text(), Text(self.summary()))

    def _rank(self, planned: Planned, record: Record) -> None:
        if record.get("status") == "finished":
            found = record["criterion"], planned.label
            self.best[planned.study] = min(found, self.best.get(planned.study, found))

    def _line(self, line: str) -> None:
        self._print(line)
        self.next_line = self.clock() + SECONDS_BETWEEN_LINES

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False)
        mark_printed()

    def _print_pending(self) -> None:
        """Print the trials that have ended since the last line: on a terminal a line each, in a log one line."""
        if self.console.is_terminal:
            for line in self.pending:
                self._print(line)
        elif self.pending:
            more = f" (and {len(self.pending) - 1} more)" if len(self.pending) > 1 else ""
            self._line(f"{self.summary()}; {self.pending[-1]}{more}")
        self.pending.clear()


def _table(columns: dict[str, JustifyMethod]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in columns.items():
        table.add_column(name, justify=justify)
    return table


def outcome_of(record: Record) -> str:
    """How a trial ended, briefly."""
    if record["status"] == "finished":
        return f"{record['criterion']:.4g} on val, {duration(record['seconds'])}"
    if record["status"] == "pruned":
        return f"pruned after epoch {record['epoch']}, {record['criterion']:.4g} on val"
    return f"{record['status']}: {record['error']}"
