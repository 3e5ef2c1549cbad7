"""Functions that run in parallel on the Ray cluster, one core each."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import RayTaskError

from latentmill.cluster.decoding import DIED
from latentmill.cluster.process import give_back_freed_memory
from latentmill.cluster.refusal import refusal
from latentmill.cluster.versions import Versions, require_versions, versions
from latentmill.errors import InputError, error_line
from latentmill.heartbeat import print_line
from latentmill.memory import is_out_of_memory
from latentmill.runtime.text import one_line

T = TypeVar("T")
LIBRARIES = ("faiss-cpu", "numpy", "scikit-learn", "scipy", "torch", "torchmetrics")  # that compute results


class TooLittleMemoryError(InputError):
    """A task did not fit into memory, or its process died; a retry may succeed."""


def share(value: Any) -> Any:
    """Send `value` to each node once; the result replaces the value as an argument of `start`."""
    return ray.put(value)


def start(function: Callable[..., T], *arguments: Any) -> Any:
    """Run `function` as soon as a core is free and its arguments, which may be started or shared, are ready.

    Arrays arrive as read-only memory that the tasks of a node share. Returns an argument for `result`.
    """
    return _run.remote(versions(*LIBRARIES), function, *arguments)


def result(started: Any) -> Any:
    """What the function returned.

    Raises:
        InputError: as the function did.
        ChangedDataError: the file of an array among its arguments was replaced.
        OtherLibrariesError: the process has other versions of libraries than this one.
        TooLittleMemoryError: it ran out of memory, or its process or node died.
            Any other error is Ray's, with its traceback.
    """
    try:
        return ray.get(started)
    except RayTaskError as error:
        refused = refusal(error)
        if refused:
            raise refused from None
        if not is_out_of_memory(error.cause):
            raise
        reason = error.cause
    except DIED as error:  # a process where the kernel killed it, maybe
        reason = error
    raise TooLittleMemoryError(f"a task must fit into memory, but {' '.join(str(reason).split())[:200]}")


def result_or_reason(started: Any) -> Any:
    """As `result`, but every error of the function is an `InputError` in a line; the traceback of others is printed."""
    try:
        return result(started)
    except RayTaskError as error:
        print_line(str(error))
        raise InputError(one_line(error_line(error.cause))) from None


def in_order_of_end(started: Iterable[Any]) -> Iterable[Any]:
    """Each of `started` as soon as it has ended."""
    waiting = list(started)
    while waiting:
        (ended,), waiting = ray.wait(waiting)
        yield ended


@ray.remote(num_cpus=1, max_retries=2)
def _run(wanted: Versions, function: Callable[..., T], *arguments: Any) -> T:
    require_versions(wanted)
    torch.set_num_threads(1)  # one core per task; results must not depend on the number of cores
    try:
        return function(*arguments)
    finally:
        give_back_freed_memory()  # the next task may need as much in other pieces
