"""How far a long computation is: a bar on a terminal, elsewhere a line every few seconds."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS = 5.0  # between two lines


class Progress:
    """Within the block, `tell(what, done, total)` shows how much is done and what time is left, a phase at a time."""

    def __init__(self) -> None:
        self.what, self.started = "", time.monotonic()
        self.said = self.started
        console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self.task = self.bar.add_task("", total=None) if self.bar else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, what: str, done: int, total: int) -> None:
        """So many of so many are done; a new `what` begins a new phase."""
        now = time.monotonic()
        begins, self.what = what != self.what, what
        if begins:
            self.started = now
        if self.bar and self.task is not None:
            if begins:
                self.bar.reset(self.task, description=what)
            self.bar.update(self.task, completed=done, total=total)
        elif now - self.said >= SECONDS:
            self.said = now
            spent = now - self.started
            left = f", {spent * (total - done) / done:.0f} s left" if done and not begins else ""
            print(f"{done:,} of {total:,} {what}{left}", flush=True)
