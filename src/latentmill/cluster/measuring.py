"""What trials cost, measured on the workers that will train them."""

from math import ceil
from typing import Any, cast

import ray
import torch
from ray.exceptions import RayError

from latentmill.cluster.connection import cluster
from latentmill.cluster.images import Images
from latentmill.cluster.pack_sizes import parallel
from latentmill.cluster.process import use_one_core
from latentmill.cluster.worker import has_gpus
from latentmill.config import SweepConfig
from latentmill.storage import Storage
from latentmill.trials import cost
from latentmill.trials.cost import SAMPLE, Cost, Sample
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.study import Request
from latentmill.trials.trial import Trial


def measured(
    missing: dict[str, Request], images: Images, features: PinnedFeatures | None, storage: Storage, config: SweepConfig
) -> dict[str, Cost | None]:
    """Measured as many at a time as will be trained, and stored."""
    batches = [(each.trial.training or {}).get("batch_size", 1) for each in missing.values()]
    rows = slice(max(SAMPLE, *batches))
    labels, counts = images.labels[0], (len(images.train), len(images.val))
    sample = Sample(images.train[rows], None if labels is None else labels[rows], images.classes, *counts, features)
    with cluster(config.workers):
        workers, gpus = parallel(config), config.gpus_per_trial if has_gpus() else 0
        shared, start = ray.put(sample), _measure.options(num_gpus=gpus).remote
        started = {}
        for name, each in missing.items():
            most = _largest_pack(each.same, workers, config)
            started[name] = start(each.trial, each.parent, shared, most, workers, storage.url)
        found = {name: _result(reference) for name, reference in started.items()}
    for name, found_cost in found.items():
        if found_cost:
            cost.save(name, found_cost, storage)
    return found


def _result(reference: Any) -> Cost | None:
    try:
        return cast(Cost, ray.get(reference))
    except RayError:  # its worker died; the trial's will too, and say so
        return None


@ray.remote(num_cpus=1, max_retries=0)
def _measure(trial: Trial, parent: Trial | None, sample: Sample, most: int, workers: int, url: str) -> Cost:
    use_one_core()
    device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
    return cost.measured(trial, parent, sample, device, most, workers, Storage(url))


def _largest_pack(same: int, workers: int, config: SweepConfig) -> int:
    """Of so many trials of a shape."""
    if config.pack == "off" or same <= workers:
        return 1
    return min(same, config.pack) if isinstance(config.pack, int) else ceil(same / workers)
