"""What runs in a worker process: a trial, a pack, or a rank of a data-parallel group; and its reports."""

import itertools
import platform
import time
import uuid
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

from latentmill.cluster.process import use_one_core
from latentmill.cluster.refusal import refusal
from latentmill.config import SweepConfig
from latentmill.data.batches import Batches
from latentmill.storage import Storage
from latentmill.training.endings import OutOfTimeError, PrunedError
from latentmill.training.ranks import DataParallel, Ranks, SingleRank
from latentmill.training.state import TrainingState
from latentmill.trials.packs import run_pack
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.running import Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial, identity, import_code, libraries
from latentmill.trials.warm_start import WarmStart

SECONDS_BETWEEN_REPORTS = 2.0  # a report waits for the driver, so short epochs must not send one each
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class SweepData:
    """What all trials of a sweep share. The images, uint8 (N, C, H, W), are in each node's memory once."""

    images: ray.ObjectRef[np.ndarray]  # for training
    val: ray.ObjectRef[np.ndarray]
    labels: tuple[np.ndarray | None, np.ndarray | None]  # int64 (N), of both
    classes: int  # of the labels
    digest: str
    settings: SweepConfig
    libraries: dict[str, str]  # the driver's versions
    features: PinnedFeatures | None = None  # where trials are ranked by distance
    halving: Any = None  # the actor that prunes trials
    warm_start: WarmStart | None = None

    def context(self, device: str, store: TrialStore) -> Context:
        """Raises ChangedDataError where the images are not those of the driver."""
        try:
            arrays = ray.get([self.images, self.val])
        except RaySystemError as error:
            raise refusal(error) or error from None
        images, val = (Batches(array, device, labels) for array, labels in zip(arrays, self.labels, strict=True))
        settled = self.classes, self.features, self.settings.compile, self.warm_start
        return Context(images, val, self.digest, store, *settled)


def ranks_per_trial(settings: SweepConfig) -> int:
    """The size of data-parallel groups."""
    return max(settings.workers_per_trial, ceil(settings.gpus_per_trial) if has_gpus() else 1)


def has_gpus() -> bool:
    """Whether the cluster has GPUs; the driver's machine may have none."""
    return ray.cluster_resources().get("GPU", 0) > 0


def train(request: dict[str, Any], data: SweepData) -> dict[str, Any]:
    """Train the trials of a request, in a process that may be reused; their results go to the trial store.

    `request["trials"]` has the `trial`, `study` and `fingerprint` of each; `request["seconds"]` limits their time,
    unless it is None.
    """
    if ranks_per_trial(data.settings) > 1:
        return train_data_parallel(request, data)
    return {"notes": run(request, data, SingleRank(), tune.report, SECONDS_BETWEEN_REPORTS)}


def train_data_parallel(request: dict[str, Any], data: SweepData) -> dict[str, Any]:
    """Train a trial with a data-parallel group of workers, one GPU or core each."""
    from ray.train.torch import TorchConfig, TorchTrainer  # here, because it is slow to import and few sweeps need it
    from ray.tune.integration.ray_train import TuneReportCallback

    on_gpu = data.settings.gpus_per_trial > 0 and has_gpus()
    callbacks: list[Any] = [TuneReportCallback()]  # forwards the reports of rank zero to Tune
    storage, name = Storage(data.settings.storage), f".ranks-{uuid.uuid4().hex}"
    trainer = TorchTrainer(
        _rank,
        train_loop_config={"request": request, "data": data},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ray_train.ScalingConfig(num_workers=ranks_per_trial(data.settings), use_gpu=on_gpu),
        run_config=ray_train.RunConfig(name=name, storage_path=storage.url, callbacks=callbacks),
    )
    try:
        last: dict[str, Any] = trainer.fit().metrics or {}
    finally:
        storage.delete(name)  # what Ray writes of the group: the trial's result is stored already
    return {"notes": last.get("notes", [])}


def _rank(config: dict[str, Any]) -> None:
    # A report synchronises all ranks, so all report at the same moments: after every epoch.
    notes = run(config["request"], config["data"], DataParallel(), ray_train.report, pause=0.0)
    ray_train.report({"notes": notes})


def run(request: dict[str, Any], data: SweepData, ranks: Ranks, report: Report, pause: float) -> list[str]:
    """Train; returns notes about damaged files."""
    use_one_core()
    settings, notes, requests = data.settings, list[str](), request["trials"]
    trials = [Trial(**each["trial"]) for each in requests]
    store = TrialStore(settings.storage, notes.append)
    error = environment_error(trials, [each["fingerprint"] for each in requests], data, store)
    if error:
        for trial, each in zip(trials, requests, strict=True):
            record = identity(trial, each["fingerprint"], data.digest)
            store.save_result(each["fingerprint"], record | {"status": "failed", "error": error})
        return notes
    context = data.context("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu", store)
    reports = Reports(report, 0.0 if settings.loggers else pause, len(trials))
    deadline = None if request["seconds"] is None else time.monotonic() + request["seconds"]
    watches = [
        watch(trial, each["study"], each["fingerprint"], data, ranks, reports, deadline)
        for trial, each in zip(trials, requests, strict=True)
    ]
    run_pack(trials, context, watches, ranks)
    return notes


def environment_error(trials: list[Trial], fingerprints: list[str], data: SweepData, store: TrialStore) -> str | None:
    """How the code or libraries of this process differ from the driver's, if they do.

    That of a prior's parent, which encodes and decodes its codes, counts too.
    """
    here = libraries()
    if here != data.libraries:
        others = [f"{name} {here.get(name)} for {own}" for name, own in data.libraries.items() if here.get(name) != own]
        return f"a worker must have the driver's libraries, but {platform.node()} has {', '.join(others)}"
    parents = {trial.parent: store.find(trial.parent) for trial in trials if trial.parent}
    known = [(Trial(**record["trial"]), name) for name, record in parents.items() if record]  # a lost one fails later
    every = [*zip(trials, fingerprints, strict=True), *known]
    for trial, _ in every:  # before its files are digested, or they may be edited in between
        import_code(trial.family, trial.model)
    if any(trial.fingerprint(data.digest) != fingerprint for trial, fingerprint in every):
        return f"a worker must have the driver's code, but that on {platform.node()} is another: run again"
    return None


def watch(
    trial: Trial,
    study: str,
    fingerprint: str,
    data: SweepData,
    ranks: Ranks,
    reports: "Reports",
    deadline: float | None = None,
) -> Watch:
    """Reports each epoch to the driver; ends the trial where it is pruned at a rung, or out of time.

    A model in part untrained is not compared, and so not pruned.
    """
    asha, rungs = data.settings.asha, asha_rungs(trial, data.settings)

    def after_epoch(state: TrainingState) -> None:
        row = state.history[-1]
        losses = {"train_loss": row["train_loss"], "val_loss": row["val_loss"]}
        reports.add({"fingerprint": fingerprint, "epoch": state.epoch, "epochs": state.epochs_allowed} | losses)
        if asha and state.epoch in rungs and state.untrained_epochs < state.epoch < state.epochs_allowed:
            report = study, fingerprint, state.epoch, row["val_loss"]
            if ranks.broadcast(ranks.is_rank_zero and ray.get(data.halving.report.remote(*report))):
                raise PrunedError(state.history, asha.model_dump())
        if deadline is not None and ranks.broadcast(time.monotonic() > deadline):
            raise OutOfTimeError(state.epoch)

    return Watch(after_epoch, rungs, lambda: reports.add({"fingerprint": fingerprint, "ended": True}))


class Reports:
    """Reports the epochs of trials to the driver, with a pause in seconds between reports."""

    def __init__(self, report: Report, pause: float, trials: int) -> None:
        self.report, self.pause, self.trials, self.next = report, pause, trials, time.monotonic()
        self.rows: dict[str, dict[str, Any]] = {}  # the latest of each trial since the last report

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["fingerprint"]] = row
        if time.monotonic() >= self.next:
            if self.trials == 1:
                self.report(row)
            else:
                self.report({"trials": list(self.rows.values())})
            self.rows, self.next = {}, time.monotonic() + self.pause


def asha_rungs(trial: Trial, settings: SweepConfig) -> list[int]:
    """The epochs after which ASHA may prune a trial; none where it is off."""
    if settings.asha is None or trial.training is None:
        return []
    grace, reduction, epochs = settings.asha.grace, settings.asha.reduction, trial.training["epochs"]
    return list(itertools.takewhile(lambda rung: rung < epochs, (grace * reduction**k for k in itertools.count())))
