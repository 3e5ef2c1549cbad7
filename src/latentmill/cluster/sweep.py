"""A sweep on Ray Tune.

Ray decides where and when a trial runs. What it yields goes to the trial store, not into Ray's own experiment
state, so nothing is lost with the cluster, and the order in which trials end decides nothing.
"""

import logging
import os
import tempfile
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
from latentmill.cluster.pack_sizes import stack_sizes
from latentmill.cluster.search import InOrder, Observer, PlanSearch
from latentmill.config import SweepConfig
from latentmill.trials.plan import Plan
from latentmill.trials.trial import libraries

# A worker that Ray ends for want of memory dies of an error that Tune (2.60) does not know, which ends the whole sweep.
for _module in (actor_manager, tune_controller):
    vars(_module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def run(plan: Plan, images: np.ndarray, val: np.ndarray, observer: Observer) -> None:
    """Train what the plan has to train.

    `images` and `val`, uint8 (N, C, H, W), go to each node once; a file that they are mapped from, its workers map too.

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
        given = placed(images), placed(val)
        material = worker.Material(ray.put(given[0]), ray.put(given[1]), plan.data_digest, config, libraries(), halving)
        changes = _Changes([each for each in given if isinstance(each, Mapped)])
        del images, val, given  # the driver's copy; its caller should keep none
        trainable = tune.with_parameters(worker.train, material=material)
        search = PlanSearch(plan, observer, stack_sizes(config, material, _slots(), plan.waiting), halving)
        size = worker.team_size(config)
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources(config)),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=InOrder(search),
                num_samples=-1,  # until the plan is over
                time_budget_s=config.max_seconds,
                max_concurrent_trials=_slots() // size if size > 1 else None,
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
        tuner.fit()
        search.cut()
        changes.require_none()


def _slots() -> int:
    """Trials that the cluster's cores can run at a time."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _name(trial: Any) -> str:
    return trial.trial_id


def _resources(config: SweepConfig) -> dict[str, float]:
    """One core a trial, and the asked share of a GPU where the cluster has one; a team's members ask for their own."""
    if worker.team_size(config) > 1:
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
