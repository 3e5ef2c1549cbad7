"""How many trials a worker is given as a pack."""

from collections.abc import Callable, Iterable
from functools import partial
from math import ceil

import ray
import torch
from ray.exceptions import RayError

from latentmill.cluster.process import keep_freed_memory
from latentmill.cluster.worker import SweepData, has_gpus, ranks_a_trial
from latentmill.config import SweepConfig
from latentmill.trials.pack_size import best_size
from latentmill.trials.store import TrialStore
from latentmill.trials.study import Planned
from latentmill.trials.trial import Trial

Measure = Callable[[Trial, int], int]  # a trial and how many there are like it -> how many at a time


class PackSizes:
    """What `train.pack` comes to for the trials of each shape."""

    def __init__(self, pack: int | str, workers: int, waiting: Iterable[Planned], measure: Measure) -> None:
        """As many `workers` train at a time. With `auto`, the shapes of those `waiting` are measured before any trains.

        A shape that a search asks for later is not: what it would be measured on may be busy then.
        """
        self.pack, self.workers = pack, workers
        self._left: dict[str | None, int] = {}  # of the trials of a shape that were shared out, those not yet taken
        self._shares: dict[str | None, int] = {}
        alike: dict[str | None, list[Planned]] = {}
        for planned in waiting if pack == "auto" else ():
            alike.setdefault(planned.shape, []).append(planned)
        self.best: dict[str | None, int] = {
            shape: measure(some[0].trial, ceil(len(some) / workers))
            for shape, some in alike.items()
            if shape is not None and len(some) > workers
        }

    def __call__(self, planned: Planned, alike: int) -> int:
        """At most so many of `alike` trials, which are about to be taken.

        With `auto` workers get as equally many as can be. Trials are shared out when there are more than were left, so
        that the last of a round are as many at a time as the first.
        """
        if isinstance(self.pack, int):
            return self.pack
        shape = planned.shape
        if alike > self._left.get(shape, 0):
            self._shares[shape] = even_share(alike, self.workers, self.best.get(shape, 1))
        self._left[shape] = alike - self._shares[shape]
        return self._shares[shape]


def even_share(trials: int, workers: int, most: int) -> int:
    """The largest size of equal packs, at most `most`, that come to the same number for each worker.

    The last packs may be smaller, or none, where the trials do not divide.
    """
    turns = ceil(trials / (workers * most))
    return ceil(trials / (workers * turns))


def pack_sizes(config: SweepConfig, data: SweepData, slots: int, waiting: Iterable[Planned]) -> PackSizes | None:
    """None where no trials are packed: ranks share one, and loggers are told of one trial at a time."""
    if config.pack in ("off", 1) or ranks_a_trial(config) > 1 or config.loggers:
        return None
    if has_gpus() and config.gpus_per_trial:
        at_a_time = min(slots, int(ray.cluster_resources()["GPU"] / config.gpus_per_trial))
        return PackSizes(config.pack, at_a_time, waiting, partial(_on_gpu, data))
    return PackSizes(config.pack, slots, waiting, partial(_here, data))


def _here(data: SweepData, trial: Trial, alike: int) -> int:
    """In this process, because a worker takes seconds to start."""
    keep_freed_memory()  # as workers do
    return _best_size(trial, data, "cpu", alike)


def _on_gpu(data: SweepData, trial: Trial, alike: int) -> int:
    on_gpu = _best_size_there.options(num_gpus=data.settings.gpus_per_trial)
    try:
        return int(ray.get(on_gpu.remote(trial, data, alike)))
    except RayError:  # the trial itself will tell what is wrong
        return 1


@ray.remote(max_calls=1)  # then its process ends, and gives the memory of the GPU back
def _best_size_there(trial: Trial, data: SweepData, most: int) -> int:
    share = min(1.0, data.settings.gpus_per_trial)
    torch.cuda.set_per_process_memory_fraction(share)
    return _best_size(trial, data, "cuda", most, share)


def _best_size(trial: Trial, data: SweepData, device: str, most: int, share: float = 1.0) -> int:
    context = data.context(device, TrialStore(data.settings.storage))
    return best_size(trial, context.setup(trial), data.classes, most, share)
