"""Ray's loggers for TensorBoard and MLflow."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.logger import TBXLoggerCallback

from latentmill.config import LoggerName
from latentmill.errors import InputError

TENSORBOARD = Path(".latentmill/tensorboard")  # `tensorboard --logdir .latentmill/tensorboard`


def loggers(names: Iterable[LoggerName]) -> list[Any]:
    """A Ray callback for each name. MLflow reads MLFLOW_TRACKING_URI.

    Raises:
        InputError: the package of a logger is not installed.
    """
    return [{"tensorboard": TensorBoard, "mlflow": _mlflow}[name]() for name in names]


class TensorBoard(TBXLoggerCallback):
    """One run per trial, in a folder that outlives Ray's experiment."""

    def log_trial_start(self, trial: Any) -> None:
        folder = TENSORBOARD / trial.config["study"] / trial.config["fingerprint"]
        self._trial_writer[trial] = self._summary_writer_cls(str(folder), flush_secs=30)
        self._trial_result[trial] = {}


def _mlflow() -> Any:
    try:
        return MLflowLoggerCallback(experiment_name="latentmill")
    except (ImportError, RuntimeError) as error:
        raise InputError(f"train.loggers: mlflow must be installed to be named there, but {error}") from None
