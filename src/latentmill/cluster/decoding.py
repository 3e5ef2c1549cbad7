"""Files decoded on all nodes of a Ray cluster, as `data.processes.mapped` does it on one machine."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from latentmill.cluster.connection import alive_nodes, cluster, on_node
from latentmill.cluster.refusal import refusal
from latentmill.cluster.versions import Versions, require_versions, versions
from latentmill.data.processes import MOST_IN_A_ROW, WAITING, Computed, Task, mapped
from latentmill.errors import InputError

LIBRARIES = ("numpy", "pillow", "pyarrow")  # that read and decode files
DIED = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError)  # of a process, or a whole node
Decode = Callable[..., list[Any]]


class Work(NamedTuple):
    """What a process is to do, and from where."""

    function: Decode
    arguments: tuple[Any, ...]
    folder: str  # which relative paths of files are below
    versions: Versions


class Distributed:
    """A `Spread` over the cluster that RAY_ADDRESS names.

    Every node must decode the first element as a process of this machine does: see its file under the same path, or
    below the same working directory, and have the same libraries. Otherwise all is decoded here, and `note` says why.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def __call__(self, function: Decode, tasks: Iterable[Task], processes: int, *arguments: Any) -> Iterator[Computed]:
        waiting = iter(tasks)
        first = next(waiting, None)
        if first is None:
            return
        waiting = chain([first], waiting)
        with cluster(None):
            work = Work(function, arguments, os.getcwd(), versions(*LIBRARIES))  # noqa: PTH109
            reason = _difference(work, first[:1])
            if reason is None:
                yield from _computed(work, waiting)
                return
        self.note(f"images are decoded on this machine alone: {reason}")
        yield from mapped(function, waiting, processes, *arguments)


def _difference(work: Work, task: Task) -> str | None:
    """How a node differs from a process of this machine in what it makes of a task; None where all agree."""
    ((_, expected),) = mapped(work.function, [task], 1, *work.arguments)
    nodes = alive_nodes()
    started = [_run.options(**on_node(node), num_cpus=0).remote(work, task) for node in nodes]
    for name, reference in zip((node["NodeManagerHostname"] for node in nodes), started, strict=True):
        try:
            result = ray.get(reference)
        except DIED:
            result = None
        except RayTaskError as error:
            return f"on {name} {refusal(error) or error.cause}"
        if result != expected:
            return f"every node must see the files under the same paths, but {name} makes something else of the first"
    return None


def _computed(work: Work, tasks: Iterator[Task]) -> Iterator[Computed]:
    """As `mapped`; of a task whose process dies each element is tried alone, twice."""
    shared, computed, culprits = ray.put(work), False, 0
    running: dict[Any, tuple[Task, int]] = {}  # and the processes that have died of the element

    def start(task: Task, deaths: int) -> None:
        running[_run.remote(shared, task)] = task, deaths

    most = WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
    while True:
        while len(running) < most and (task := next(tasks, None)) is not None:
            start(task, 0)
        if not running:
            return
        (ended,), _ = ray.wait(list(running))
        task, deaths = running.pop(ended)
        try:
            yield task, ray.get(ended)
            computed = True
        except DIED:
            if len(task) > 1 or deaths == 0:
                for element in task:
                    start([element], int(len(task) == 1))
                continue
            culprits += 1
            if not computed and culprits == MOST_IN_A_ROW:
                rule = "processes must be able to decode on the nodes of the cluster"
                raise InputError(f"{rule}, but {2 * culprits} ended at once") from None
            yield task, None


@ray.remote(num_cpus=1, max_retries=0)
def _run(work: Work, task: Task) -> list[Any]:
    require_versions(work.versions)
    with suppress(OSError):  # where there is none, what is below it is not seen
        os.chdir(work.folder)
    return work.function(task, *work.arguments)
