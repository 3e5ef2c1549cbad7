"""A server of MLflow: MLFLOW_TRACKING_URI names it, MLFLOW_EXPERIMENT_NAME the experiment; and what runs have there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from latentmill.errors import InputError

LOCAL = Path(".latentmill/mlflow")  # where MLFLOW_TRACKING_URI names no server: a database, and pictures beside it
DATABASE = "runs.db"
EXPERIMENT = "latentmill"
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # training waits for them
MOST, BATCH = 500, 100  # characters of a param; params or metrics that a server takes at a time


def package() -> ModuleType:
    """mlflow, with a server.

    Raises:
        InputError: it is not installed.
    """
    for name, value in RETRIES.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ImportError as error:
        raise InputError(f"train.loggers: mlflow must be installed to be named there, but {error}") from None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        LOCAL.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{(LOCAL / DATABASE).resolve()}")
    return mlflow


@contextmanager
def answering() -> Iterator[None]:
    """Raises InputError where the server does not answer within the block, or refuses."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        where = os.environ.get("MLFLOW_TRACKING_URI", LOCAL)
        raise InputError(f"MLflow must answer at {where}, but {' '.join(str(error).split())[:300]}") from None


def experiment(mlflow: ModuleType) -> str:
    """Its id; it is made if need be. Raises InputError where the server does not answer."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    with answering():
        if "MLFLOW_TRACKING_URI" not in os.environ and mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, LOCAL.resolve().as_uri())
        found: str = mlflow.set_experiment(name).experiment_id
        return found


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def log_params(client: Any, run: str, nested: Mapping[str, Any]) -> None:
    """Params of a run, by dotted names, as text that the server does not refuse for its length."""
    from mlflow.entities import Param

    found = [Param(name, str(value)[:MOST]) for name, value in flat(nested).items()]
    for some in _batches(found):
        client.log_batch(run, params=some)


def log_metrics(client: Any, run: str, values: Mapping[str, float], step: int = 0) -> None:
    """Metrics of a run at a step."""
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    found = [Metric(name, value, now, step) for name, value in values.items()]
    for some in _batches(found):
        client.log_batch(run, metrics=some)


def _batches(found: list[Any]) -> Iterator[list[Any]]:
    return (found[start : start + BATCH] for start in range(0, len(found), BATCH))
