"""How the driver of a sweep starts and stops: with a lock on its store, and cleanly on a signal."""

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

PROBE = ".probe"  # a file that is written to test the store
SECONDS_TO_WAIT = 20.0  # for a sweep whose `dvc repro` has died, which needs a few to end
ENDING = (signal.SIGTERM, signal.SIGINT)
SECONDS_TO_END = 7.0  # clusters give at least 10 when they reclaim a machine
STOPPED = "error: stopped by a signal; every trial is kept to its last epoch, a later run goes on"


@contextmanager
def exclusive(store: TrialStore) -> Iterator[None]:
    """Lock the store within the block: two sweeps would train the same trials.

    A store elsewhere can't be locked: two sweeps there waste work, but their files are the same.

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
        store.storage.clear(lock.name)
        held = FileLock(lock).acquire(timeout=SECONDS_TO_WAIT)
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
def graceful_shutdown() -> Iterator[None]:
    """SIGINT or SIGTERM, which a cluster sends before it reclaims a machine, ends the block and then the process.

    It prints one line.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if (number, before[number]) != (signal.SIGINT, signal.SIG_IGN):  # which shells ignore for background jobs
            signal.signal(number, stop)
    _force_end()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:  # Ray may have replaced our exception
            print(STOPPED, file=sys.stderr)
            raise SystemExit(128 + received[0])


def _force_end() -> None:
    """End the process within `SECONDS_TO_END` of a signal, whatever Ray still waits for.

    Python runs handlers in the main thread, which Ray may block for long; the byte in this pipe is written at once.
    """
    received, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        while (number := os.read(received, 1)[0]) not in ENDING:
            pass
        time.sleep(SECONDS_TO_END)
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()
