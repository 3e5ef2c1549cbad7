"""The plan of a sweep with its forecast; what trials cost is measured once, on the workers that will train them."""

import json
import os
import platform
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, cast

import ray
import torch
from ray.exceptions import RayError

from latentmill.cluster.connection import cluster
from latentmill.cluster.pack_sizes import parallel
from latentmill.cluster.process import use_one_core
from latentmill.cluster.search import optuna_rounds
from latentmill.cluster.sweep import Images
from latentmill.cluster.worker import has_gpus
from latentmill.config import Params, SweepConfig
from latentmill.errors import InputError
from latentmill.runtime.cores import cores
from latentmill.storage import Storage
from latentmill.trials import cost
from latentmill.trials.budget import Expected, Forecast, expected_studies
from latentmill.trials.cost import SAMPLE, Cost, Sample
from latentmill.trials.ladder import Ladder
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial


@dataclass(frozen=True)
class _Request:
    """A trial to measure."""

    trial: Trial
    parent: Trial | None
    same: int  # trials of its shape, which may be packed


def plan_and_forecast(
    params: Params,
    digest: str,
    images: Images,
    store: TrialStore,
    features: PinnedFeatures | None = None,
    measure: bool = False,
) -> tuple[Plan, str]:
    """The plan, and a line about the time, memory and disk that it will take.

    Costs that are not stored are measured if `measure` is set or `train.budget` depends on them.

    Raises:
        InputError: as `Ladder`; or several workers share a trial under `train.budget`.
    """
    config, pinned = params.train, features.digest if features else None
    if config.budget and max(config.workers_per_trial, config.gpus_per_trial) > 1:
        rule = "must be null where several workers share a trial, whose pace is not measured"
        raise InputError(f"params.yaml: train.budget {rule}, but got {config.budget:g} s")
    studies = expected_studies(Ladder(params, optuna_rounds, pinned), len(images.train))
    names = {each.name: _requests(each, digest, config) for each in studies}
    wanted = {name: request for requests in names.values() for name, request in requests}
    costs = {name: cost.load(name, store.storage) for name in wanted}
    missing = {name: wanted[name] for name, found in costs.items() if found is None}
    if missing and (config.budget or (measure and Plan(params, digest, store, optuna_rounds, pinned).missing)):
        costs |= _measured(missing, images, features, store.storage, config)
    workers = max((found.workers for found in costs.values() if found), default=1)
    known = {study: [costs[name] for name, _ in requests] for study, requests in names.items()}
    forecast = Forecast(studies, known, config.asha, workers)
    allowed = forecast.allowances(config.budget) if config.budget else {}
    lengths = {each.name: max(forecast.lengths(each, allowed.get(each.name, each.all))) for each in studies}
    plan = Plan(params, digest, store, optuna_rounds, pinned, allowed, lengths)
    return plan, forecast.summary(plan.missing_by_study, allowed, config.budget)


def _requests(study: Expected, digest: str, config: SweepConfig) -> list[tuple[str, _Request]]:
    """The trials of a study, by the name of their cost."""
    names = [cost.key(trial, study.parent, digest, _machine(config)) for trial in study.trials]
    pairs = zip(names, study.trials, strict=True)
    return [(name, _Request(trial, study.parent, names.count(name))) for name, trial in pairs]


def _measured(
    missing: dict[str, _Request], images: Images, features: PinnedFeatures | None, storage: Storage, config: SweepConfig
) -> dict[str, Cost | None]:
    """Measured as many at a time as will be trained, and stored."""
    batches = [(each.trial.training or {}).get("batch_size", 1) for each in missing.values()]
    rows = slice(max(SAMPLE, *batches))
    labels, counts = images.labels[0], (len(images.train), len(images.val))
    sample = Sample(images.train[rows], None if labels is None else labels[rows], images.classes, *counts, features)
    with cluster(config.workers):
        workers, gpus = parallel(config), config.gpus_per_trial if has_gpus() else 0
        shared, start = ray.put(sample), _measure.options(num_gpus=gpus).remote
        started = {}
        for name, each in missing.items():
            most = _largest_pack(each.same, workers, config)
            started[name] = start(each.trial, each.parent, shared, most, workers, storage.url)
        found = {name: _result(reference) for name, reference in started.items()}
    for name, measured in found.items():
        if measured:
            cost.save(name, measured, storage)
    return found


def _result(reference: Any) -> Cost | None:
    try:
        return cast(Cost, ray.get(reference))
    except RayError:  # its worker died; the trial's will too, and say so
        return None


@ray.remote(num_cpus=1, max_retries=0)
def _measure(trial: Trial, parent: Trial | None, sample: Sample, most: int, workers: int, url: str) -> Cost:
    use_one_core()
    device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
    return cost.measured(trial, parent, sample, device, most, workers, Storage(url))


def _largest_pack(same: int, workers: int, config: SweepConfig) -> int:
    """Of so many trials of a shape."""
    if config.pack == "off" or config.loggers or same <= workers:
        return 1
    return min(same, config.pack) if isinstance(config.pack, int) else ceil(same / workers)


def _machine(config: SweepConfig) -> str:
    """What the pace depends on, beside the trial."""
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text("utf-8", "replace").splitlines() if processors.exists() else [platform.processor()]
    name = next((line for line in lines if line.startswith("model name")), lines[0])
    count = torch.cuda.device_count() if config.gpus_per_trial else 0
    gpus = [torch.cuda.get_device_name(index) for index in range(count)]
    settings = config.gpus_per_trial, config.workers, config.pack
    return json.dumps([name, cores(), gpus, os.environ.get("RAY_ADDRESS"), *settings])
