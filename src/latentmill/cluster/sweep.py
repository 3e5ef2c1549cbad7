"""A sweep on Ray Tune.

Ray decides where and when a trial runs. Results go to the trial store, not into Ray's experiment state, so nothing is
lost with the cluster, and the order in which trials end has no influence.
"""

import logging
import os
import tempfile
from typing import Any

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
from latentmill.cluster.images import Images
from latentmill.cluster.mapped import ChangedDataError, Mapped, placed
from latentmill.cluster.pack_sizes import pack_sizes, slots
from latentmill.cluster.search import PlanOrder, PlanSearch
from latentmill.config import SweepConfig
from latentmill.tracking.observers import Observer
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.trial import libraries

# When Ray kills a worker because memory runs low, its error is unknown to Tune (2.60), which would end the sweep.
for _module in (actor_manager, tune_controller):
    vars(_module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def run(plan: Plan, images: Images, observer: Observer, features: PinnedFeatures | None = None) -> None:
    """Train the missing trials of the plan.

    Images are sent to each node once, or mapped by each worker. `features` are for trials ranked by distance.

    Raises:
        InputError: the cluster can't be reached or used.
        ChangedDataError: the images have changed; finished trials are kept.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the observer reports trials that fail
    config = plan.config.model_copy(update={"storage": plan.store.storage.url})  # absolute, for workers
    with cluster(config.workers, for_tasks=False), tempfile.TemporaryDirectory() as scratch:
        require_shared(plan.store.storage)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots())  # else Tune starts workers one by one
        halving = Halving.options(**on_this_node()).remote(config.asha) if config.asha else None
        arrays = [placed(each, plan.store.storage) for each in (images.train, images.val)]
        shared = ray.put(arrays[0]), ray.put(arrays[1])
        data = worker.SweepData(
            *shared,
            images.labels,
            images.classes,
            plan.data_digest,
            config,
            libraries(),
            features,
            halving,
            plan.warm_start,
        )
        changes = _Changes([each for each in arrays if isinstance(each, Mapped)])
        del images, arrays  # frees the driver's copy
        search = PlanSearch(plan, observer, pack_sizes(config, data, plan.waiting), halving)
        _tuner(search, config, tune.with_parameters(worker.train, data=data), changes, scratch).fit()
        search.out_of_time()
        changes.require_none()


def _tuner(search: PlanSearch, config: SweepConfig, trainable: Any, changes: "_Changes", scratch: str) -> tune.Tuner:
    ranks = worker.ranks_per_trial(config)
    return tune.Tuner(
        tune.with_resources(trainable, _resources(config)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=PlanOrder(search),
            num_samples=-1,  # until the plan is over
            time_budget_s=config.max_seconds,
            max_concurrent_trials=slots() // ranks if ranks > 1 else None,
            reuse_actors=True,  # a fresh process would import torch for every trial
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            stop=changes,
            verbose=0,
            callbacks=[_StartCallback(search)],
            failure_config=tune.FailureConfig(max_failures=0),  # the plan decides which trials to retry
        ),
    )


def _resources(config: SweepConfig) -> dict[str, float]:
    """One core per trial, and its share of a GPU where the cluster has one; ranks reserve their own."""
    if worker.ranks_per_trial(config) > 1:
        return {"memory": 1}  # a byte: Tune must reserve something
    return {"cpu": 1, "gpu": config.gpus_per_trial if worker.has_gpus() else 0}


class _Changes(Stopper):
    """Ends the sweep where the files of its images have changed."""

    def __init__(self, mapped: list[Mapped]) -> None:
        self.mapped = mapped

    def require_none(self) -> None:
        """Raises ChangedDataError where a file has changed."""
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


class _StartCallback(TrialProgressCallback):
    """Calls the search when a trial has a worker, which a Searcher does not see.

    A callback of this class also suppresses Ray's progress lines.
    """

    def __init__(self, search: PlanSearch) -> None:
        super().__init__()
        self.search = search

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.search.on_trial_start(trial.trial_id)

    def on_trial_result(self, *arguments: Any, **named: Any) -> None: ...

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None: ...

    on_trial_error = on_trial_complete
