"""The sweep: the same trials on one worker and on two, Ray's start and end included."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.target import Result, Target
from latentmill import sweep
from latentmill.config import SweepConfig, TrainingConfig
from latentmill.training.trials import Trial, TrialStore
from latentmill.variants.vae import Vae

SPEEDUP = Target("sweep: speed on 2 workers against 1", "x", at_least=1.8)
TRIALS, EPOCHS, IMAGES, BATCH = 10, 60, 6400, 128  # some 16 s a trial: Ray takes about 10 s to start and to end
DIGEST = "noise"


def measure() -> Iterator[Result]:
    """Ten equal trials; images of noise do, because a step costs the same on all."""
    if len(os.sched_getaffinity(0)) < 2:
        yield SPEEDUP.not_measured("2 cores")
        return
    alone, together = seconds(workers=1), seconds(workers=2)
    yield SPEEDUP.result(alone / together)


def seconds(workers: int) -> float:
    """Of the whole call, into a store of its own."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 28, 28), np.uint8)
    missing = {trial.fingerprint(DIGEST): trial for trial in map(equal_trial, range(TRIALS))}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        config = SweepConfig(workers=workers, gpus_per_trial=0)
        errors = sweep.run(missing, images, images[:500], DIGEST, TrialStore(Path(folder)), config, lambda _: None)
        elapsed = time.perf_counter() - started
    assert not errors, errors
    return elapsed


def equal_trial(seed: int) -> Trial:
    """Trials differ by their seed alone, and none stops early."""
    training = TrainingConfig(epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH)
    return Trial("vae", Vae.Config().model_dump(), training.model_dump(), seed)
