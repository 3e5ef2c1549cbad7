"""How far a long computation is: a bar on a terminal, elsewhere a line every few seconds."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS = 5.0  # between two lines


class Progress:
    """Within the block, `tell(done, total)` shows how much is done and what time is left."""

    def __init__(self, what: str) -> None:
        self.what, self.started = what, time.monotonic()
        self.said = self.started
        console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self.task = self.bar.add_task(what, total=None) if self.bar else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, done: int, total: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)
        elif now - self.said >= SECONDS:
            self.said = now
            left = (now - self.started) * (total - done) / max(done, 1)
            print(f"{done:,} of {total:,} {self.what}, {left:.0f} s left", flush=True)
