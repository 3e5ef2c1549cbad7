"""How many trials a worker is given to train as one program."""

from collections.abc import Callable
from math import ceil

import ray

from latentmill.config import SweepConfig
from latentmill.sweep.worker import Material, has_gpus, team_size
from latentmill.training.packing import best_size
from latentmill.training.plan import Planned
from latentmill.training.trials import Trial


class StackSizes:
    """What `train.pack` comes to for the trials of each shape."""

    def __init__(self, config: SweepConfig, measure: Callable[[Trial, int], int], workers: int) -> None:
        """`measure` finds the best size up to a largest; as many `workers` train at a time."""
        self.pack, self.measure, self.workers = config.pack, measure, workers
        self.measured: dict[str, tuple[int, int]] = {}  # by shape: the largest that was looked at, and the best

    def __call__(self, planned: Planned, alike: int) -> int:
        """At most so many of `alike` trials: with `auto` every worker gets some."""
        if isinstance(self.pack, int):
            return self.pack
        fair, shape = ceil(alike / self.workers), str(planned.shape)
        if shape not in self.measured or self.measured[shape][0] < fair:
            self.measured[shape] = fair, self.measure(planned.trial, fair)
        return self.measured[shape][1]


def stack_sizes(config: SweepConfig, material: Material, slots: int) -> StackSizes | None:
    """None where no trials share a program: teams share a trial, and loggers are told of one trial at a time."""
    if config.pack in ("off", 1) or team_size(config) > 1 or config.loggers:
        return None
    if not has_gpus() or not config.gpus_per_trial:
        return StackSizes(config, lambda trial, most: best_size(trial, *material.batches("cpu"), most), slots)
    at_a_time = min(slots, int(ray.cluster_resources()["GPU"] / config.gpus_per_trial))
    on_gpu = _best_size.options(num_gpus=config.gpus_per_trial)
    return StackSizes(config, lambda trial, most: ray.get(on_gpu.remote(trial, material, most)), at_a_time)


@ray.remote
def _best_size(trial: Trial, material: Material, most: int) -> int:
    share = material.settings.gpus_per_trial
    return best_size(trial, *material.batches("cuda"), most, share_of_memory=share)
