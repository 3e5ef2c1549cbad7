"""A progress bar on a terminal, where something takes long."""

import sys
import time
from collections.abc import Iterator

import numpy as np

SLOW = 1.0  # seconds, after which it appears


def with_progress(batches: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The same batches, with a progress bar on a terminal after `SLOW` seconds."""
    started, done = time.perf_counter(), 0
    for images in batches:
        yield images
        done += len(images)
        seconds = time.perf_counter() - started
        if sys.stderr.isatty() and seconds > SLOW:
            left = seconds * (count - done) / done
            bar = "#" * round(30 * done / count)
            print(f"\r[{bar:<30}] {done:,} of {count:,}, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty() and time.perf_counter() - started > SLOW:
        print("\r\033[K", end="", file=sys.stderr)
