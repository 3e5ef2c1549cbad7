"""A function mapped over tasks in separate processes, any of which may die without ending the run."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from operator import length_hint
from typing import Any, Protocol

from latentmill.errors import InputError

Task = list[Any]
Computed = tuple[Task, list[Any] | None]
MOST_IN_A_ROW = 3  # elements that kill processes, one after the other from the first
WAITING = 3  # tasks submitted per process, so that none has to wait for its next


class Spread(Protocol):
    """`mapped`, or something that does the same elsewhere."""

    def __call__(
        self, function: Callable[..., list[Any]], tasks: Iterable[Task], processes: int, *arguments: Any
    ) -> Iterator[Computed]: ...


def mapped(
    function: Callable[..., list[Any]], tasks: Iterable[Task], processes: int, *arguments: Any
) -> Iterator[Computed]:
    """Each task, a list, with `function(task, *arguments)`, as they end; with 0 processes, in this one.

    Where a process dies, its tasks are retried element by element; an element that kills two processes gives None.

    Raises:
        InputError: processes die before they have computed anything.
    """
    if processes == 0:
        yield from ((task, function(task, *arguments)) for task in tasks)
        return
    waiting, culprits = iter(tasks), 0
    while lost := (yield from _until_one_dies(function, waiting, processes, WAITING, arguments)):
        elements = [[element] for task in lost for element in task]
        singles = iter(elements)
        # One at a time, to find the culprit.
        while suspects := (yield from _until_one_dies(function, singles, 1, 1, arguments)):
            for culprit in (yield from _until_one_dies(function, iter(suspects), 1, 1, arguments)):
                culprits += 1
                if culprits == len(elements) - length_hint(singles) == MOST_IN_A_ROW:
                    raise InputError(f"processes must be able to start here, but {2 * culprits} ended at once")
                yield culprit, None


def _until_one_dies(
    function: Callable[..., list[Any]], tasks: Iterator[Task], processes: int, ahead: int, arguments: tuple[Any, ...]
) -> Generator[Computed, None, list[Task]]:
    """Returns the tasks that were submitted when a process died; none where all have ended."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)
    running: dict[Future[list[Any]], Task] = {}
    refused: list[Task] = []  # by a pool that is broken already
    try:
        while True:
            while len(running) < ahead * processes and (task := next(tasks, None)) is not None:
                refused = [task]
                running[pool.submit(function, task, *arguments)] = refused.pop()
            if not running:
                return []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running[future], future.result()
                del running[future]
    except BrokenProcessPool:
        return [*running.values(), *refused]
    except BaseException:  # such as Ctrl-C: running tasks are useless
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In each process: ignore Ctrl-C, which the parent handles, end with the parent, and silence C libraries."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints errors of damaged files, which are reported already
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
