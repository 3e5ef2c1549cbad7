"""Ctrl-C while onnxruntime computes: Python acts on a signal between its own steps, and one call may take minutes."""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

GRACE = 2.0  # seconds to end in an orderly way


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Within the block, which must be in the main thread, Ctrl-C ends the process after `GRACE` seconds at the latest.

    What is half written then stays, under the name of a partial output.
    """
    if os.name != "posix":
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Written to by the handler of the process itself.
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    Thread(target=_watch, args=(read_end,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write_end)  # the watch ends


def _watch(read_end: int) -> None:
    while number := os.read(read_end, 1):
        if number[0] == signal.SIGINT and not _is_closed_within(read_end, GRACE):
            _die()
    os.close(read_end)


def _is_closed_within(read_end: int, seconds: float) -> bool:
    ready = select.select([read_end], [], [], seconds)[0]
    return bool(ready) and not os.read(read_end, 1)


def _die() -> None:
    """Of the signal, so that a loop of the shell ends too: of its default action, which only C can set in a thread."""
    print("error: interrupted", file=sys.stderr, flush=True)
    ctypes.pythonapi.PyOS_setsig(int(signal.SIGINT), ctypes.c_void_p(int(signal.SIG_DFL)))
    os.kill(os.getpid(), signal.SIGINT)
