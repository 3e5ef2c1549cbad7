"""Trials in parallel on Ray Tune. The only file that imports ray.

Ray decides where and when a trial runs. What it yields goes to the trial store, not into Ray's own experiment
state, so nothing finished is lost with the cluster, and the order in which trials end decides nothing.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from latentmill.config import SweepConfig
from latentmill.data.batches import Batches
from latentmill.training import trials
from latentmill.training.trials import Trial, TrialStore

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no network at run time
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what ray 2.60 warns will be the default
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records replace its CSV, JSON and TensorBoard files
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the sweep as if it were complete
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables; `on_end` says what there is to say
}
OnEnd = Callable[[str], None]  # told the fingerprint of a trial that finished or failed


def run(
    missing: dict[str, Trial],
    images: np.ndarray,
    val: np.ndarray,
    data_digest: str,
    store: TrialStore,
    config: SweepConfig,
    on_end: OnEnd,
) -> dict[str, str]:
    """Train the `missing` trials, by fingerprint, into `store`; return the errors of those that failed.

    They start in the order of `longest_first`, so that no worker is left alone with a long one at the end.
    `images` and `val` are uint8 (N, C, H, W). They go to the object store once, and workers read them there.
    """
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # trials that fail are reported by `on_end`
    private: dict[str, Any] = {"num_cpus": config.workers, "include_dashboard": False}
    local = {} if "RAY_ADDRESS" in os.environ else private
    with ray.init(logging_level=logging.ERROR, log_to_driver=False, **local), tempfile.TemporaryDirectory() as scratch:
        trainable = tune.with_parameters(_train, images=images, val=val, data_digest=data_digest, store=store)
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources(config)),
            param_space={"trial": tune.grid_search([asdict(trial) for trial in longest_first(missing.values())])},
            tune_config=tune.TuneConfig(reuse_actors=True),  # a fresh process would import torch for each trial
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Reporter(data_digest, on_end)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        results = tuner.fit()
    ended = [results[index] for index in range(len(results))]
    return {_fingerprint(result.config or {}, data_digest): _sentence(result.error) for result in ended if result.error}


def longest_first(missing: Iterable[Trial]) -> list[Trial]:
    """By epochs allowed; among equals the later in the ladder first, which is the larger model as a rule."""
    later_first = list(missing)[::-1]
    return sorted(later_first, key=lambda trial: -(trial.training or {"epochs": 0})["epochs"])


def _train(
    config: dict[str, Any], images: np.ndarray, val: np.ndarray, data_digest: str, store: TrialStore
) -> dict[str, Any]:
    """One trial, in a worker that may have run others before it."""
    torch.set_num_threads(1)  # one core a trial; more threads would fight with the other trials
    torch.set_flush_denormal(True)  # vanishing gradients of unused dimensions made a product ten times slower
    device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
    trials.run(Trial(**config["trial"]), Batches(images, device), Batches(val, device), data_digest, store)
    return {}


def _resources(config: SweepConfig) -> dict[str, float]:
    """One core a trial, and the asked share of a GPU where the cluster has one."""
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    return {"cpu": 1, "gpu": config.gpus_per_trial if has_gpu else 0}


class _Reporter(TrialProgressCallback):
    """Passes on that a trial ended, as soon as it did.

    Ray leaves out its own progress lines where it is given a callback of this class.
    """

    def __init__(self, data_digest: str, on_end: OnEnd) -> None:
        super().__init__()
        self.data_digest, self.on_end = data_digest, on_end

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """A trial reports once, when it is done, and `on_trial_complete` tells of that."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_end(_fingerprint(trial.config, self.data_digest))

    on_trial_error = on_trial_complete


def _fingerprint(config: dict[str, Any], data_digest: str) -> str:
    return Trial(**config["trial"]).fingerprint(data_digest)


def _sentence(error: BaseException) -> str:
    """What went wrong in one line: the cause in the trial, or what Ray says of a worker that died."""
    cause = getattr(error, "cause", None) or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())
