"""A sweep on Ray Tune.

Ray decides where and when a trial runs. What it yields goes to the trial store, not into Ray's own experiment
state, so nothing is lost with the cluster, and the order in which trials end decides nothing.
"""

import logging
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.stopper import Stopper

from latentmill.cluster import worker
from latentmill.cluster.connection import cluster, on_this_node, require_shared
from latentmill.cluster.halving import Halving
from latentmill.cluster.loggers import loggers
from latentmill.cluster.mapped import ChangedDataError, Mapped, placed
from latentmill.cluster.pack_sizes import pack_sizes
from latentmill.cluster.search import InOrder, Observer, PlanSearch
from latentmill.config import SweepConfig
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.trial import libraries

# A worker that Ray ends for want of memory dies of an error that Tune (2.60) does not know, which ends the whole sweep.
for _module in (actor_manager, tune_controller):
    vars(_module)["RayActorError"] = (RayActorError, OutOfMemoryError)


@dataclass(frozen=True)
class Images:
    """What a sweep trains on and validates with: uint8 (N, C, H, W), and their labels int64 (N), if any."""

    train: np.ndarray
    val: np.ndarray
    labels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    classes: int = 0


def run(plan: Plan, images: Images, observer: Observer, features: PinnedFeatures | None = None) -> None:
    """Train what the plan has to train.

    The images go to each node once; a file that they are mapped from, its workers map too. `features` are those that
    the plan's trials are ranked in, if any are.

    Raises:
        InputError: the cluster can't be reached or used.
        ChangedDataError: the images are others by now; what was trained is kept.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # trials that fail are reported by the observer
    config = plan.config.model_copy(update={"storage": plan.store.storage.url})  # absolute, wherever a worker runs
    with cluster(config.workers, for_tasks=False), tempfile.TemporaryDirectory() as scratch:
        require_shared(plan.store.storage)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_slots())  # else Tune starts its workers one after the other
        halving = Halving.options(**on_this_node()).remote(config.asha) if config.asha else None
        given = placed(images.train), placed(images.val)
        shared = ray.put(given[0]), ray.put(given[1])
        data = worker.SweepData(
            *shared, images.labels, images.classes, plan.data_digest, config, libraries(), features, halving
        )
        changes = _Changes([each for each in given if isinstance(each, Mapped)])
        del images, given  # the driver's copy; its caller should keep none
        search = PlanSearch(plan, observer, pack_sizes(config, data, _slots(), plan.waiting), halving)
        _tuner(search, config, tune.with_parameters(worker.train, data=data), changes, scratch).fit()
        search.cut()
        changes.require_none()


def _tuner(search: PlanSearch, config: SweepConfig, trainable: Any, changes: "_Changes", scratch: str) -> tune.Tuner:
    ranks = worker.ranks_a_trial(config)
    return tune.Tuner(
        tune.with_resources(trainable, _resources(config)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=InOrder(search),
            num_samples=-1,  # until the plan is over
            time_budget_s=config.max_seconds,
            max_concurrent_trials=_slots() // ranks if ranks > 1 else None,
            reuse_actors=True,  # a fresh process would import torch for each trial
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            stop=changes,
            verbose=0,
            callbacks=[_Starts(search), *loggers(config.loggers)],
            failure_config=tune.FailureConfig(max_failures=0),  # the plan decides what is run again
        ),
    )


def _slots() -> int:
    """Trials that the cluster's cores can run at a time."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _name(trial: Any) -> str:
    return trial.trial_id


def _resources(config: SweepConfig) -> dict[str, float]:
    """One core a trial, and the asked share of a GPU where the cluster has one; ranks ask for their own."""
    if worker.ranks_a_trial(config) > 1:
        return {"memory": 1}  # a byte: Tune must reserve something
    return {"cpu": 1, "gpu": config.gpus_per_trial if worker.has_gpus() else 0}


class _Changes(Stopper):
    """Ends the sweep where the files that its images are mapped from are others by now."""

    def __init__(self, mapped: list[Mapped]) -> None:
        self.mapped = mapped

    def require_none(self) -> None:
        """Raises: ChangedDataError: there are some."""
        for each in self.mapped:
            each.require_unchanged()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        try:
            self.require_none()
        except ChangedDataError:
            return True
        return False


class _Starts(TrialProgressCallback):
    """Tells the search when a trial has got its worker; a Searcher is not told.

    Ray leaves out its own progress lines where it is given a callback of this class.
    """

    def __init__(self, search: PlanSearch) -> None:
        super().__init__()
        self.search = search

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.search.on_trial_start(trial.trial_id)

    def on_trial_result(self, *arguments: Any, **named: Any) -> None: ...

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None: ...

    on_trial_error = on_trial_complete
