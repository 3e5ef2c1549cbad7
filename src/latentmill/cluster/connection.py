"""The Ray cluster that trials and tasks run on: the one that RAY_ADDRESS names, else a private one on this machine."""

import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import ray
from ray.exceptions import OutOfDiskError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from latentmill.cluster import has_token
from latentmill.cluster.refusal import refusal
from latentmill.cluster.session import session_folder
from latentmill.cluster.upload import copy_package, package_files
from latentmill.errors import InputError
from latentmill.runtime.cores import cores
from latentmill.storage import Storage

T = TypeVar("T")


def is_private() -> bool:
    """Whether the cluster is this machine alone, so that its processes see the same files."""
    return "RAY_ADDRESS" not in os.environ


@contextmanager
def cluster(workers: int | None, for_tasks: bool = True) -> Iterator[None]:
    """Connect to Ray within the block; a private cluster of `workers` cores, by default `cores()`, ends with it.

    `for_tasks` starts worker processes for tasks in advance. Tune's trials can't use them, and would start later.

    Raises:
        InputError: the cluster that RAY_ADDRESS names can't be reached, or there is no place for a private one; or the
            disk for what processes share is full.
    """
    with ExitStack() as stack:
        if is_private():
            settings = _private(workers, for_tasks, stack.enter_context(session_folder()))
        else:
            settings = _shared(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(_connected(settings))
        try:
            yield
        except OutOfDiskError:
            rule = "processes must have room for what they share, in /dev/shm or else in TMPDIR"
            where = settings.get("_temp_dir", "a node of the cluster")
            raise InputError(f"{rule}, but {where} is full: set TMPDIR to a folder with more") from None


def _connected(settings: dict[str, Any]) -> Any:
    """Ray's connection, a context."""
    address = os.environ.get("RAY_ADDRESS")
    if address is not None:
        _require_open_port(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        hint = "; if it asks for a token, set RAY_AUTH_TOKEN" if isinstance(error, ConnectionError) else ""
        raise InputError(f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}{hint}") from None
    except Exception as error:  # which is the class of this error of Ray
        if "timed out during startup" not in str(error):
            raise
        raise InputError("Ray must start within 30 s, but this machine has too much to do: run again") from None
    signal.signal(signal.SIGTERM, on_sigterm)  # ray.init sets a handler that prints a stack trace
    return context


def _private(workers: int | None, for_tasks: bool, folder: str) -> dict[str, Any]:
    if not has_token():  # else Ray would write one into the home folder, which may not be there
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Without "local", Ray joins any cluster that was started on this machine. By default, it would retry a task that
    # runs out of memory for ever.
    system = {"prestart_worker_first_driver": for_tasks, "task_oom_retries": 1}
    place = {"address": "local", "include_dashboard": False, "_temp_dir": folder}
    return place | {"num_cpus": workers or cores(), "_system_config": system}


def _shared(folder: Path) -> dict[str, Any]:
    """`folder` is empty, for the code that is sent."""
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # which has the code already
    return {} if is_job else {"runtime_env": {"py_modules": [str(copy_package(package_files(), folder))]}}


def _require_open_port(address: str) -> None:
    """Fail at once where nothing listens; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # `auto`, or an error that Ray explains better
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}") from None


def require_shared(storage: Storage) -> None:
    """Raises InputError where a node can't read what the driver writes into the trial store."""
    nodes = alive_nodes()
    if len(nodes) == 1 and nodes[0]["NodeID"] == ray.get_runtime_context().get_node_id():
        return
    probe, content = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
    storage.write(probe, content)
    try:
        reads = {
            node["NodeManagerHostname"]: _read.options(**on_node(node)).remote(storage.url, probe) for node in nodes
        }
        unseen_by = [name for name, read in reads.items() if ray.get(read) != content]
    finally:
        storage.delete(probe)
    if unseen_by:
        raise InputError(
            f"train.storage must be seen by every node of the cluster, a shared folder or a URL such as "
            f"s3://bucket/trials, but {storage} is not seen by {', '.join(unseen_by)}"
        )


@ray.remote(num_cpus=0)
def _read(url: str, name: str) -> bytes | None:
    try:
        return Storage(url).read(name)
    except OSError:
        return None


def alive_nodes() -> list[dict[str, Any]]:
    """What Ray says of each node of the cluster that answers."""
    return [node for node in ray.nodes() if node["Alive"]]


def on_each_node(function: Callable[..., T], *arguments: Any) -> list[T]:
    """What the function returns on each node, all at the same time, also where trials use all cores.

    Raises:
        InputError: as the function does on a node.
    """
    started = [_call.options(**on_node(node)).remote(function, *arguments) for node in alive_nodes()]
    try:
        return cast(list[T], ray.get(started))
    except RayTaskError as error:
        raise refusal(error) or error from None


@ray.remote(num_cpus=0)
def _call(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


def on_node(node: dict[str, Any]) -> dict[str, Any]:
    """Options of a task or an actor that must run there."""
    return _on(node["NodeID"])


def on_this_node() -> dict[str, Any]:
    """Options of an actor that must live as long as the driver."""
    return _on(ray.get_runtime_context().get_node_id())


def _on(node_id: str) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
