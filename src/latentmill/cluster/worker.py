"""What runs in a worker process: one trial, several as one program, or a member's part in one; and its reports."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import ray
import torch
from ray import train as ray_train
from ray import tune
from ray.exceptions import RaySystemError

from latentmill.cluster.mapped import refusal
from latentmill.cluster.process import use_one_core
from latentmill.config import SweepConfig, TrainingConfig
from latentmill.data.batches import Batches
from latentmill.storage import Storage
from latentmill.training.endings import StoppedError
from latentmill.training.ranks import Alone, DataParallel, Team
from latentmill.training.state import Progress, epochs_allowed
from latentmill.trials import packs, running
from latentmill.trials.running import Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial, identity, libraries

SECONDS_BETWEEN_REPORTS = 2.0  # a report waits for the driver, so an epoch of milliseconds must not make one each
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Material:
    """What every trial of a sweep is given. The images, uint8 (N, C, H, W), are in each node's memory once."""

    images: ray.ObjectRef[np.ndarray]  # for training
    val: ray.ObjectRef[np.ndarray]
    data_digest: str
    settings: SweepConfig
    libraries: dict[str, str]  # as the driver has them
    halving: Any = None  # the actor that is asked which trials are behind, if any is

    def batches(self, device: str) -> tuple[Batches, Batches]:
        """Raises: ChangedDataError: they are not those that the driver has."""
        try:
            images, val = ray.get([self.images, self.val])
        except RaySystemError as error:
            raise refusal(error) or error from None
        return Batches(images, device), Batches(val, device)


def team_size(settings: SweepConfig) -> int:
    """How many workers share a trial."""
    return max(settings.workers_per_trial, ceil(settings.gpus_per_trial) if has_gpus() else 1)


def has_gpus() -> bool:
    """Whether the cluster has; the driver's machine may have none."""
    return ray.cluster_resources().get("GPU", 0) > 0


def train(asked: dict[str, Any], material: Material) -> dict[str, Any]:
    """Run the trials that are asked for, in a process that may have run others; their results are in the trial store.

    `asked["asked"]` has of each its `trial`, `entry` and `fingerprint`.
    """
    if team_size(material.settings) > 1:
        return train_as_team(asked, material)
    return {"notes": run(asked, material, Alone(), tune.report, SECONDS_BETWEEN_REPORTS)}


def train_as_team(asked: dict[str, Any], material: Material) -> dict[str, Any]:
    """Run a trial as a group of workers, one GPU or core each, that average their gradients."""
    from ray.train.torch import TorchConfig, TorchTrainer  # here, because few sweeps need it and all would wait for it
    from ray.tune.integration.ray_train import TuneReportCallback

    on_gpu = material.settings.gpus_per_trial > 0 and has_gpus()
    callbacks: list[Any] = [TuneReportCallback()]  # passes the leader's reports on to Tune
    trainer = TorchTrainer(
        _member,
        train_loop_config={"asked": asked, "material": material},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ray_train.ScalingConfig(num_workers=team_size(material.settings), use_gpu=on_gpu),
        run_config=ray_train.RunConfig(
            storage_path=Storage(material.settings.storage).below(".together"), callbacks=callbacks
        ),
    )
    last: dict[str, Any] = trainer.fit().metrics or {}
    return {"notes": last.get("notes", [])}


def _member(given: dict[str, Any]) -> None:
    # Each report is a meeting of the whole team, so all report at the same moments: after every epoch.
    notes = run(given["asked"], given["material"], DataParallel(), ray_train.report, pause=0.0)
    ray_train.report({"notes": notes})


def run(asked: dict[str, Any], material: Material, team: Team, report: Report, pause: float) -> list[str]:
    """Train; returns what there is to tell of damaged files."""
    use_one_core()
    settings, notes = material.settings, list[str]()
    chosen = [Trial(**each["trial"]) for each in asked["asked"]]
    store = TrialStore(settings.storage, notes.append)
    refusal = why_not_here(chosen, [each["fingerprint"] for each in asked["asked"]], material)
    if refusal:
        for trial, each in zip(chosen, asked["asked"], strict=True):
            record = identity(trial, each["fingerprint"], material.data_digest)
            store.end(each["fingerprint"], record | {"status": "failed", "error": refusal})
        return notes
    images, val = material.batches("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
    reports = Reports(report, 0.0 if settings.loggers else pause, len(chosen))
    watches = [
        watch(trial, each["entry"], each["fingerprint"], len(images), material, team, reports)
        for trial, each in zip(chosen, asked["asked"], strict=True)
    ]
    context = Context(images, val, material.data_digest, store, settings.compile)
    if len(chosen) == 1:
        running.run(chosen[0], context, watches[0], team)
    else:
        packs.run_pack(chosen, context, watches)
    return notes


def why_not_here(chosen: list[Trial], fingerprints: list[str], material: Material) -> str | None:
    """Why this process would not train what the driver asks for, in one line."""
    here = libraries()
    if here != material.libraries:
        differing = [
            f"{name} {here[name]} for {found}" for name, found in material.libraries.items() if here[name] != found
        ]
        return f"a worker must have the driver's libraries, but {platform.node()} has {', '.join(differing)}"
    if [trial.fingerprint(material.data_digest) for trial in chosen] != fingerprints:
        return f"a worker must have the driver's code, but that on {platform.node()} is another: run again"
    return None


def watch(
    trial: Trial, entry: str, fingerprint: str, images: int, material: Material, team: Team, reports: "Reports"
) -> Watch:
    """After each epoch the driver is told; after those that are a rung the trial ends if it is behind others."""
    rungs = asha_rungs(trial, images, material.settings)
    epochs = epochs_allowed(images, TrainingConfig.model_validate(trial.training)) if trial.training else 0

    def after_epoch(progress: Progress) -> None:
        row = progress.history[-1]
        numbers = {
            "epoch": progress.epoch,
            "epochs": epochs,
            "train_loss": row["train_loss"],
            "val_loss": row["val_loss"],
        }
        reports.add({"fingerprint": fingerprint} | numbers)
        if progress.epoch in rungs:
            criterion = row["val_loss"]
            asked = team.leads and material.halving.is_behind.remote(entry, fingerprint, progress.epoch, criterion)
            if team.agree(bool(asked and ray.get(asked))):
                raise StoppedError(progress.history)

    return Watch(after_epoch, rungs, lambda: reports.add({"fingerprint": fingerprint, "ended": True}))


class Reports:
    """Tells the driver how far trials have come, with a pause in seconds between reports."""

    def __init__(self, report: Report, pause: float, trials: int) -> None:
        self.report, self.pause, self.trials, self.next = report, pause, trials, time.monotonic()
        self.rows: dict[str, dict[str, Any]] = {}  # the latest of each trial since the last report

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["fingerprint"]] = row
        if time.monotonic() >= self.next:
            if self.trials == 1:
                self.report(row | {"timesteps_total": row["epoch"]})  # the x axis of loggers
            else:
                self.report({"trials": list(self.rows.values())})
            self.rows, self.next = {}, time.monotonic() + self.pause


def asha_rungs(trial: Trial, images: int, settings: SweepConfig) -> list[int]:
    """The epochs after which successive halving compares a trial with others; none where it is off."""
    if settings.asha is None or trial.training is None:
        return []
    last = epochs_allowed(images, TrainingConfig.model_validate(trial.training))
    rungs, rung = [], settings.asha.grace
    while rung < last:
        rungs.append(rung)
        rung *= settings.asha.reduction
    return rungs
