"""The sweep: what Ray and the planning cost beside the training, in time and in memory."""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import psutil

from benchmarks.target import Result, Target
from latentmill.cluster.images import Images
from latentmill.cluster.rounds import optuna_rounds
from latentmill.cluster.sweep import run
from latentmill.config import Params
from latentmill.tracking.observers import Observer
from latentmill.trials.plan import Plan
from latentmill.trials.store import TrialStore

SPEEDUP = Target("sweep: speed on 2 workers against 1", "x", at_least=1.8)
START = Target("sweep: start, until the first trial trains", "s", at_most=6)
OVERHEAD = Target("sweep: overhead of a trial of some 20 s", "s", at_most=0.3)
SHARE = Target("sweep: overhead as a share of its trials of some 20 s", "%", at_most=5)
MANY = Target("sweep: 1 000 trivial trials planned, run and ranked", "s", at_most=180)
GROWTH = Target("sweep: memory of the driver from trial 200 to 1 000", "MiB", at_most=50)
PLANNING = Target("sweep: planning 100 000 configurations", "s", at_most=10)
COPIES = Target("sweep: copies of the data while 8 workers train", "", at_most=1.3)

TRIALS, EPOCHS, SIZE, BATCH = 16, 60, 6400, 128  # trials of some 16 to 20 s
EQUAL = {"vae": {"learning_rate": [1e-3 * 1.01**step for step in range(TRIALS)]}}  # which trains in equal time
LONG = {"epochs": EPOCHS, "patience": EPOCHS, "batch_size": BATCH}


@dataclass
class Watcher(Observer):
    """Sees when the first trial starts, and what the driver's memory is as trials end."""

    began: float = field(default_factory=time.perf_counter)
    first_start: float = 0.0
    memory: list[int] = field(default_factory=list)

    def started(self, planned: Any) -> None:
        self.first_start = self.first_start or time.perf_counter() - self.began

    def ended(self, planned: Any, record: Any) -> None:
        self.memory.append(psutil.Process().memory_info().rss)


@dataclass(frozen=True)
class Swept:
    """What a sweep took, in seconds."""

    whole: float  # the call, Ray's start and end included
    start: float  # until the first trial trained
    loops: float  # spent in trials, over all workers
    memory: list[int]  # of the driver as each trial ended, in bytes


def measure() -> Iterator[Result]:
    """On images of noise, because a step costs the same on all."""
    yield PLANNING.result(planning_seconds())
    yield from measure_many()
    yield from measure_long()
    yield COPIES.result(copies())


def measure_long() -> Iterator[Result]:
    """Sixteen equal trials, on one worker and on two."""
    if len(os.sched_getaffinity(0)) < 2:
        yield SPEEDUP.not_measured("2 cores")
        return
    alone, together = (swept(EQUAL, LONG, noise(SIZE), workers) for workers in (1, 2))
    yield SPEEDUP.result(alone.whole / together.whole)
    yield START.result(together.start)
    overhead = (together.whole - together.start) * 2 - together.loops
    yield OVERHEAD.result(overhead / TRIALS)
    yield SHARE.result(100 * overhead / together.loops)


def measure_many() -> Iterator[Result]:
    """Naive Bayes takes a millisecond, so this is all overhead."""
    ladder = {"naive_bayes": {"pseudocount": [1.0 + step for step in range(1000)]}}
    many = swept(ladder, {}, noise(500)[:, :, :8, :8], workers=2)
    yield MANY.result(many.whole)
    yield GROWTH.result((many.memory[-1] - many.memory[199]) / 2**20)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 28, 28), np.uint8)


def swept(ladder: dict[str, Any], trial: dict[str, Any], images: np.ndarray, workers: int) -> Swept:
    """A sweep into a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        watcher = Watcher()
        plan = planned(ladder, trial, {"workers": workers, "gpus_per_trial": 0.0, "storage": folder})
        run(plan, Images(images, images[:500]), watcher)
        whole = time.perf_counter() - watcher.began
    statuses = {record["status"] for record in plan.records.values()}
    assert statuses == {"finished"}, statuses
    loops = sum(record["seconds"] for record in plan.records.values())
    return Swept(whole, watcher.first_start, loops, watcher.memory)


def planned(ladder: dict[str, Any], trial: dict[str, Any], train: dict[str, Any]) -> Plan:
    sections = {
        "data": {"source": "digits"},
        "trial": trial,
        "priors": {"normal": {}},
        "ladder": ladder,
        "train": train,
    }
    params = Params.model_validate(sections | {"evaluation": {}, "export": {}})
    return Plan(params, "noise", TrialStore(params.train.storage), optuna_rounds)


def planning_seconds() -> float:
    space = {"latent": list(range(1, 101)), "beta": {"uniform": [0.1, 4.0]}, "samples": 1000}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        plan = planned({"vae": space}, {}, {"storage": folder})
        seconds = time.perf_counter() - started
    assert len(plan.planned) == 100_000
    return seconds


def copies() -> float:
    """Memory that 780 MB of images add to a sweep on eight workers, as a multiple of the images."""
    many, few = 1_000_000, 1_000
    return (held(many) - held(few)) / ((many - few) * 28 * 28)


def held(count: int) -> float:
    """Bytes that a sweep holds while its eight trials all run; what differs with `count` is the data."""
    ladder = {"vae": {"hidden": 16, "latent": list(range(2, 10))}}
    trial = {"epochs": 10**6, "patience": 10**6, "max_steps": 10**9, "batch_size": min(count, 1000)}
    with tempfile.TemporaryDirectory() as folder, Sampler() as sampler:
        train = {"workers": 8, "gpus_per_trial": 0.0, "storage": folder, "max_seconds": 45.0}
        run(planned(ladder, trial, train), Images(noise(count), noise(500)), Watcher())
    return statistics.median(sampler.seen[-15:])


class Sampler:
    """The memory, in bytes, of this process, its children and what they share, once a second."""

    def __enter__(self) -> Self:
        self.seen, self.over = list[int](), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.over.wait(1.0):
            self.seen.append(private_and_shared())


def private_and_shared() -> int:
    """Pages of no other process, and the shared memory in which Ray keeps its objects."""
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(map(private, ours)) + psutil.disk_usage("/dev/shm").used


def private(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().uss
    except psutil.NoSuchProcess:
        return 0  # it ended meanwhile
