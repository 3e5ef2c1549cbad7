"""How the driver of a sweep begins and ends: alone on its store, and in order when it is told to stop."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.trials.store import TrialStore

PROBE = ".probe"  # a file that is written to see whether it can be
SECONDS_FOR_THE_OTHER = 20.0  # one that lost its `dvc repro` needs a few to end
ENDING = (signal.SIGTERM, signal.SIGINT)
SECONDS_TO_END = 7.0  # clusters that take a machine away give 10 at the least
TOLD_TO_STOP = "error: told to stop; every trial is kept to its last epoch, a later run goes on"


@contextmanager
def alone(store: TrialStore) -> Iterator[None]:
    """No other sweep of this machine writes the store meanwhile; two would train the same trials.

    A store elsewhere can't be locked: two sweeps there waste work, but each file is whole and the same.

    Raises:
        InputError: another one runs, or the store can't be written.
    """
    if not store.storage.is_local:
        _require_writable(store.storage)
        yield
        return
    lock = Path(store.storage.url, ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire(timeout=SECONDS_FOR_THE_OTHER)
    except Timeout:
        raise InputError(f"only one sweep may use a trial store at a time, but another holds {lock}") from None
    except OSError as error:
        raise InputError(f"train.storage must be writable, but {store.storage}: {error.strerror}") from None
    with held:
        yield


def _require_writable(storage: Storage) -> None:
    try:
        storage.write(PROBE, b"")
        storage.delete(PROBE)
    except OSError as error:
        raise InputError(f"train.storage must be a place that can be written, but {storage}: {error}") from None


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Ctrl-C, or SIGTERM as a cluster sends it before it takes a machine away, ends the block and then the process.

    In a line, and so does the death of the `dvc repro` that started this process: DVC forwards only SIGINT, and a sweep
    that goes on unseen would fight with the next one.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if (number, before[number]) != (signal.SIGINT, signal.SIG_IGN):  # as shells have it in the background
            signal.signal(number, stop)
    _end_anyway()
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:  # Ray may have made another exception of ours
            print(TOLD_TO_STOP, file=sys.stderr)
            raise SystemExit(128 + received[0])


def _end_anyway() -> None:
    """Once told to, end within `SECONDS_TO_END`, whatever Ray still waits for.

    Python runs handlers in the main thread, which Ray may hold for long; the byte in this pipe is written at once.
    """
    received, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        while (number := os.read(received, 1)[0]) not in ENDING:
            pass
        time.sleep(SECONDS_TO_END)
        print(TOLD_TO_STOP, file=sys.stderr, flush=True)
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
