"""Lines that show that a long computation goes on: at least one every ten seconds, also in a log."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

SILENCE = 8.0  # seconds after which a line is printed

_printed_at = time.monotonic()


def print_line(line: str) -> None:
    """Print a line, without delay also into a pipe."""
    print(line, flush=True)
    mark_printed()


def mark_printed() -> None:
    """Called after something was printed by other means than `print_line`."""
    global _printed_at
    _printed_at = time.monotonic()


class Heartbeat:
    """Within the block, prints a line whenever nothing else was printed for `SILENCE` seconds."""

    def __init__(self, doing: str | Callable[[], str], write: Callable[[str], None] = print_line) -> None:
        """`doing` is a text, to which the time so far is added, or a function that returns the line."""
        self.doing, self.write = doing, write
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(max(0.05, _printed_at + SILENCE - time.monotonic())):
            if time.monotonic() >= _printed_at + SILENCE:
                so_far = f" ({duration(time.monotonic() - self._started)} so far)"
                self.write(self.doing + so_far if isinstance(self.doing, str) else self.doing())
                mark_printed()


TOLERANCE = 1.25  # an estimate that exceeds the shown time by this factor shows that it was wrong


class TimeLeft:
    """The time left as it is shown: it never grows, and is hidden while it is far from the estimate."""

    def __init__(self) -> None:
        self.least: float | None = None

    def shown(self, estimate: float | None) -> float | None:
        """The smallest estimate so far, in seconds; None where there is none, or it was wrong."""
        if estimate is None or (self.least is not None and estimate > TOLERANCE * self.least):
            return None
        self.least = estimate if self.least is None else min(estimate, self.least)
        return self.least


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3:07`, `2:03:07`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
