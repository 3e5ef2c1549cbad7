"""Computing on one core, where more would wait for one another or give another result."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch uses one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def steps_at_a_time(count: int) -> Iterator[ThreadPoolExecutor]:
    """Within the block steps that are submitted run so many at a time, each on one core.

    Their products are too small for several threads: on two cores these took twice the time.
    """
    from threadpoolctl import threadpool_limits

    with one_thread(), ThreadPoolExecutor(count, initializer=threadpool_limits, initargs=(1,)) as threads:
        yield threads
