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
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)  # written to by the handler of the process itself
    Thread(target=_watch, args=(heard,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(told)  # the watch ends


def _watch(heard: int) -> None:
    while number := os.read(heard, 1):
        if number[0] == signal.SIGINT and not _is_closed_within(heard, GRACE):
            _die()
    os.close(heard)


def _is_closed_within(heard: int, seconds: float) -> bool:
    ready = select.select([heard], [], [], seconds)[0]
    return bool(ready) and not os.read(heard, 1)


def _die() -> None:
    """Of the signal, so that a loop of the shell ends too: of its default action, which only C can set in a thread."""
    print("error: interrupted", file=sys.stderr, flush=True)
    ctypes.pythonapi.PyOS_setsig(int(signal.SIGINT), ctypes.c_void_p(int(signal.SIG_DFL)))
    os.kill(os.getpid(), signal.SIGINT)
