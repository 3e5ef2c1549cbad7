"""How many trials a worker packs."""

from collections.abc import Callable, Iterable
from functools import partial
from math import ceil

import ray
import torch
from ray.exceptions import RayError

from latentmill.cluster.process import keep_freed_memory
from latentmill.cluster.worker import SweepData, has_gpus, ranks_per_trial
from latentmill.config import SweepConfig
from latentmill.trials.pack_size import best_size
from latentmill.trials.store import TrialStore
from latentmill.trials.study import Planned
from latentmill.trials.trial import Trial

Measure = Callable[[Trial, int], int]  # (a trial, how many there are of its shape) -> the best size


class PackSizes:
    """The sizes of packs under `train.pack`, by the shape of the trials."""

    def __init__(self, pack: int | str, workers: int, waiting: Iterable[Planned], measure: Measure) -> None:
        """So many `workers` train in parallel. With `auto`, the shapes of the `waiting` trials are measured first.

        Shapes that an adaptive search adds later are not measured, because the machine is busy then, and not packed.
        """
        self.pack, self.workers = pack, workers
        self._left: dict[str | None, int] = {}  # by shape, trials of the last division that wait
        self._shares: dict[str | None, int] = {}
        by_shape: dict[str | None, list[Planned]] = {}
        for planned in waiting if pack == "auto" else ():
            by_shape.setdefault(planned.shape, []).append(planned)
        self.best: dict[str | None, int] = {
            shape: measure(same[0].trial, ceil(len(same) / workers))
            for shape, same in by_shape.items()
            if shape is not None and len(same) > workers
        }

    def __call__(self, planned: Planned, waiting: int) -> int:
        """How many of the `waiting` trials of a shape to pack next, at most.

        With `auto`, they are divided evenly among the workers whenever new ones have been planned, so that the last
        packs of a round are as large as the first.
        """
        if isinstance(self.pack, int):
            return self.pack
        shape = planned.shape
        if waiting > self._left.get(shape, 0):
            self._shares[shape] = even_share(waiting, self.workers, self.best.get(shape, 1))
        self._left[shape] = waiting - self._shares[shape]
        return self._shares[shape]


def even_share(trials: int, workers: int, most: int) -> int:
    """The largest size of packs, at most `most`, for which each worker trains the same number of packs.

    Where the trials do not divide evenly, the last packs are smaller, or a worker has none.
    """
    turns = ceil(trials / (workers * most))
    return ceil(trials / (workers * turns))


def slots() -> int:
    """Trials that the cluster's cores can run in parallel."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def parallel(config: SweepConfig) -> int:
    """Trials, or packs, that the cluster's cores and GPUs can train at a time."""
    if not (has_gpus() and config.gpus_per_trial):
        return slots()
    return max(1, min(slots(), int(ray.cluster_resources()["GPU"] / config.gpus_per_trial)))


def pack_sizes(config: SweepConfig, data: SweepData, waiting: Iterable[Planned]) -> PackSizes | None:
    """None where no trials are packed, as with data-parallel groups."""
    if config.pack in ("off", 1) or ranks_per_trial(config) > 1:
        return None
    measure = _best_size_on_gpu if has_gpus() and config.gpus_per_trial else _best_size_here
    return PackSizes(config.pack, parallel(config), waiting, partial(measure, data))


def _best_size_here(data: SweepData, trial: Trial, most: int) -> int:
    """In this process, because a worker takes seconds to start."""
    keep_freed_memory()  # as workers do
    return _best_size(trial, data, "cpu", most)


def _best_size_on_gpu(data: SweepData, trial: Trial, most: int) -> int:
    task = _best_size_task.options(num_gpus=data.settings.gpus_per_trial)
    try:
        return int(ray.get(task.remote(trial, data, most)))
    except RayError:  # the trial will fail with the same error, and report it
        return 1


@ray.remote(max_calls=1)  # then its process ends, which frees its memory of the GPU
def _best_size_task(trial: Trial, data: SweepData, most: int) -> int:
    share = min(1.0, data.settings.gpus_per_trial)
    torch.cuda.set_per_process_memory_fraction(share)
    return _best_size(trial, data, "cuda", most, share)


def _best_size(trial: Trial, data: SweepData, device: str, most: int, share: float = 1.0) -> int:
    context = data.context(device, TrialStore(data.settings.storage))
    return best_size(trial, context.setup(trial), data.classes, most, share)
