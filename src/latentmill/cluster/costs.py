"""The plan of a sweep with its forecast; what trials cost is measured once.

Ray takes longer to import than all else here, so it is imported only where something is left to measure.
"""

import json
import os
import platform
from functools import partial
from pathlib import Path

import torch

from latentmill.cluster.images import Images
from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import Params, SweepConfig
from latentmill.errors import InputError
from latentmill.runtime.cores import cores
from latentmill.trials import cost
from latentmill.trials.budget import Expected, Forecast, expected_studies
from latentmill.trials.ladder import Ladder
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.store import TrialStore
from latentmill.trials.study import Request
from latentmill.trials.warm_start import WarmStart


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
        InputError: as `Ladder` and `WarmStart`; or several workers share a trial under `train.budget`.
    """
    config, pinned = params.train, features.digest if features else None
    if config.budget and max(config.workers_per_trial, config.gpus_per_trial) > 1:
        rule = "must be null where several workers share a trial, whose pace is not measured"
        raise InputError(f"params.yaml: train.budget {rule}, but got {config.budget:g} s")
    shape, classes = images.train.shape[1:], images.classes
    earlier = WarmStart(config.warm_start, shape, classes) if config.warm_start else None
    studies = expected_studies(Ladder(params, optuna_rounds, pinned), len(images.train))
    names = {each.name: _requests(each, digest, config) for each in studies}
    wanted = {name: request for requests in names.values() for name, request in requests}
    costs = {name: cost.load(name, store.storage) for name in wanted}
    missing = {name: wanted[name] for name, found in costs.items() if found is None}
    planned = partial(Plan, params, digest, store, optuna_rounds, pinned, warm_start=earlier)
    if missing and (config.budget or (measure and planned().missing)):
        from latentmill.cluster import measuring

        costs |= measuring.measured(missing, images, features, store.storage, config)
    workers = max((found.workers for found in costs.values() if found), default=1)
    known = {study: [costs[name] for name, _ in requests] for study, requests in names.items()}
    forecast = Forecast(studies, known, config.asha, workers)
    allowed = forecast.allowances(config.budget) if config.budget else {}
    lengths = {each.name: max(forecast.lengths(each, allowed.get(each.name, each.all))) for each in studies}
    plan = planned(allowances=allowed, lengths=lengths)
    return plan, forecast.summary(plan.missing_by_study, allowed, config.budget)


def _requests(study: Expected, digest: str, config: SweepConfig) -> list[tuple[str, Request]]:
    """The trials of a study, by the name of their cost."""
    names = [cost.key(trial, study.parent, digest, _machine(config)) for trial in study.trials]
    pairs = zip(names, study.trials, strict=True)
    return [(name, Request(trial, study.parent, names.count(name))) for name, trial in pairs]


def _machine(config: SweepConfig) -> str:
    """What the pace depends on, beside the trial."""
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text("utf-8", "replace").splitlines() if processors.exists() else [platform.processor()]
    name = next((line for line in lines if line.startswith("model name")), lines[0])
    count = torch.cuda.device_count() if config.gpus_per_trial else 0
    gpus = [torch.cuda.get_device_name(index) for index in range(count)]
    settings = config.gpus_per_trial, config.workers, config.pack
    return json.dumps([name, cores(), gpus, os.environ.get("RAY_ADDRESS"), *settings])
