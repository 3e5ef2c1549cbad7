"""A run of MLflow for each trial of a sweep, while it trains, and one with the live samples."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from latentmill.errors import InputError
from latentmill.tracking.mlflow_server import answering, experiment, log_metrics, log_params, package
from latentmill.tracking.observers import LOSSES, Observer
from latentmill.trials.record import Record
from latentmill.trials.study import Planned

FINGERPRINT = "latentmill.fingerprint"
STATUS = {"finished": "FINISHED", "pruned": "KILLED"}  # others have failed


def _unless_lost(method: Callable[..., None]) -> Callable[..., None]:
    """Does nothing once the server has not answered."""

    @wraps(method)
    def kept(self: "MLflowTrials", *given: Any) -> None:
        if self.is_lost:
            return
        try:
            with answering():
                method(self, *given)
        except InputError as error:
            self.is_lost = True
            self.note(f"{error}; the sweep goes on, and MLflow hears no more of it")

    return kept


class MLflowTrials(Observer):
    """A run for each trial, continued where the trial is; of a server that no longer answers only the runs are lost."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """`note` gets a sentence where the server no longer answers.

        Raises:
            InputError: the package is not installed, or the server does not answer.
        """
        mlflow = package()
        self.experiment, self.client, self.note = experiment(mlflow), mlflow.MlflowClient(), note
        self.runs: dict[str, str] = {}  # by fingerprint, those that are open
        self.is_lost, self.pictures, self.samples = False, 0, ""

    @_unless_lost
    def __exit__(self, *error: object) -> None:
        for run in self.runs.values():
            self.client.set_terminated(run, "KILLED")
        if self.samples:
            self.client.set_terminated(self.samples)

    @_unless_lost
    def started(self, planned: Planned) -> None:
        same = f"tags.`{FINGERPRINT}` = '{planned.fingerprint}'"
        known = self.client.search_runs([self.experiment], same, max_results=1)
        run = known[0].info.run_id if known else self._new_run(planned)
        self.client.update_run(run, "RUNNING")
        self.runs[planned.fingerprint] = run

    def _new_run(self, planned: Planned) -> str:
        tags, trial = {FINGERPRINT: planned.fingerprint, "latentmill.study": planned.study}, planned.trial
        run: str = self.client.create_run(self.experiment, tags=tags, run_name=planned.label).info.run_id
        log_params(self.client, run, {"model": trial.model, "seed": trial.seed} | trial.config | (trial.training or {}))
        return run

    @_unless_lost
    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        losses = {loss: result[loss] for loss in LOSSES}
        log_metrics(self.client, self.runs[planned.fingerprint], losses, result["epoch"])

    @_unless_lost
    def ended(self, planned: Planned, record: Record) -> None:
        run = self.runs.pop(planned.fingerprint, None) or self._new_run(planned)  # no worker may ever have started it
        if record["status"] == "finished":
            log_metrics(self.client, run, {"criterion": record["criterion"]}, record["best_epoch"])
        self.client.set_tag(run, "latentmill.status", record["status"])
        self.client.set_terminated(run, STATUS.get(record["status"], "FAILED"))

    @_unless_lost
    def pictured(self, picture: np.ndarray) -> None:
        self.samples = self.samples or self.client.create_run(self.experiment, run_name="samples").info.run_id
        self.client.log_image(self.samples, picture, key="samples", step=self.pictures)
        self.pictures += 1
