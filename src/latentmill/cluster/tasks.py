"""Functions run at a time, one core each, on the Ray cluster."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError

from latentmill.cluster.mapped import refusal
from latentmill.cluster.process import give_back_freed_memory
from latentmill.errors import InputError
from latentmill.memory import is_out_of_memory

T = TypeVar("T")


class TooLittleMemoryError(InputError):
    """A task did not fit into memory, or its process died: another time it may do."""


def share(value: Any) -> Any:
    """Bring `value` to the nodes once; the result goes where the value would as an argument of `start`."""
    return ray.put(value)


def start(function: Callable[..., T], *arguments: Any) -> Any:
    """Run `function` as soon as a core is free and those arguments that are themselves started or shared are there.

    Arrays arrive as read-only memory that the tasks of a node share. Returns what `result` takes.
    """
    return _run.remote(function, *arguments)


def result(started: Any) -> Any:
    """What the function returned.

    Raises:
        InputError: as the function did.
        ChangedDataError: the file of an array that it was given is another one by now.
        TooLittleMemoryError: there was too little for it, or its process died.
            Any other error comes as Ray's, with where it was raised.
    """
    try:
        return ray.get(started)
    except RayTaskError as error:
        refused = refusal(error)
        if refused:
            raise refused from None
        if not is_out_of_memory(error.cause):
            raise
        said = error.cause
    except (OutOfMemoryError, WorkerCrashedError) as error:  # the latter where the kernel ended it
        said = error
    raise TooLittleMemoryError(f"a task must fit into memory, but {' '.join(str(said).split())[:200]}")


def in_order_of_end(started: Iterable[Any]) -> Iterable[Any]:
    """Each of `started` as soon as it has ended."""
    waiting = list(started)
    while waiting:
        (ended,), waiting = ray.wait(waiting)
        yield ended


@ray.remote(num_cpus=1, max_retries=2)
def _run(function: Callable[..., T], *arguments: Any) -> T:
    torch.set_num_threads(1)  # one core a task; a result must not depend on how many there are
    try:
        return function(*arguments)
    finally:
        give_back_freed_memory()  # the next task may take as much in other pieces
