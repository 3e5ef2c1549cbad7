"""The Ray cluster that trials and tasks run on: the one that RAY_ADDRESS names, else a private one on this machine."""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from latentmill.errors import InputError
from latentmill.storage import Storage

PACKAGE = Path(__file__).parents[1]


def is_private() -> bool:
    """Whether it is of this machine alone, and so its processes see the same files."""
    return "RAY_ADDRESS" not in os.environ


@contextmanager
def cluster(workers: int | None, for_tasks: bool = True) -> Iterator[None]:
    """Connected to Ray within the block; a private cluster, of so many cores or all, ends with it.

    `for_tasks` starts processes that tasks may use. Tune's trials do not, and take longer to start beside them.

    Raises:
        InputError: the cluster that RAY_ADDRESS names can't be reached.
    """
    settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        # Without "local", Ray joins what a `ray start` of anyone on this machine has left a note of.
        settings |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
        # A task for which memory does not suffice would be tried for ever.
        settings["_system_config"] = {"prestart_worker_first_driver": for_tasks, "task_oom_retries": 1}
    elif "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # a job's code is there already
        settings["runtime_env"] = {"py_modules": [str(PACKAGE)]}
    if address is not None:
        _require_answer(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        hint = "; if it asks for a token, set RAY_AUTH_TOKEN" if isinstance(error, ConnectionError) else ""
        raise InputError(f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}{hint}") from None
    signal.signal(signal.SIGTERM, on_sigterm)  # ray.init puts a handler of its own there, which dumps a stack
    with context:
        yield


def _require_answer(address: str) -> None:
    """That something listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # `auto`, or what Ray explains better
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}") from None


def require_shared(storage: Storage) -> None:
    """Every node must see the trial store, or trials would be lost where they were trained.

    Raises:
        InputError: a node does not see what the driver wrote there.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and nodes[0]["NodeID"] == ray.get_runtime_context().get_node_id():
        return
    probe, said = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
    storage.write(probe, said)
    try:
        answers = {node["NodeManagerHostname"]: _seen.options(**_on(node)).remote(storage.url, probe) for node in nodes}
        blind = [name for name, answer in answers.items() if ray.get(answer) != said]
    finally:
        storage.delete(probe)
    if blind:
        raise InputError(
            f"train.storage must be seen by every node of the cluster, a shared folder or a URL such as "
            f"s3://bucket/trials, but {storage} is not seen by {', '.join(blind)}"
        )


@ray.remote(num_cpus=0)
def _seen(url: str, name: str) -> bytes | None:
    try:
        return Storage(url).read(name)
    except OSError:
        return None


def on_this_node() -> dict[str, Any]:
    """Options of what must not be lost while the driver is there."""
    return _on({"NodeID": ray.get_runtime_context().get_node_id()})


def _on(node: dict[str, Any]) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
