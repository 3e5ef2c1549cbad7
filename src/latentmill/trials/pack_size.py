"""The best size of a pack, by a short measurement."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from latentmill.data.batches import Batches
from latentmill.threads import one_thread
from latentmill.training.loop import Setup, begin, trainer
from latentmill.training.noise import STEPS_AHEAD
from latentmill.training.trainer import Trainer
from latentmill.trials.packs import FAULTS
from latentmill.trials.trial import Trial

GROWTH = 4  # between one size and the next
GAIN = 1.1  # by which a larger pack must be faster per member, or it only costs memory
MISSES = 2  # sizes in a row without such a gain: the overhead of vmap can hide that of a larger pack
SECONDS, TURNS = 0.02, 5  # to time the steps of a size; the fastest turn was disturbed least
SLOW_STEP = 0.004  # seconds on a CPU: such a step is mostly arithmetic, which packing can't save
USABLE = 0.8  # of the memory


def best_size(trial: Trial, setup: Setup, classes: int, most: int, share_of_memory: float = 1.0) -> int:
    """Between 1 and `most`; on a GPU, limited by a share of its memory.

    Sizes grow until `MISSES` in a row do not shorten a member's step. On a CPU, where a worker has one core, a trial
    with a slow step is not packed.
    """
    best, fastest, misses = 1, float("inf"), 0
    for size in _sizes(most):
        seconds = _member_seconds(trial, size, setup, classes, share_of_memory)
        if seconds is None:
            break
        if seconds * GAIN > fastest:
            misses += 1
            if misses == MISSES:
                break
            continue
        best, fastest, misses = size, seconds, 0
        if setup.examples.device.type == "cpu" and seconds > SLOW_STEP:
            break
    return best


def _sizes(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        size *= GROWTH
    yield most


def _member_seconds(trial: Trial, size: int, setup: Setup, classes: int, share_of_memory: float) -> float | None:
    """The time of a step per member; None where the pack does not fit into memory, or the model can't be packed."""
    device = setup.examples.device
    try:
        with one_thread():  # as in workers
            trained = copies(trial, size, setup, classes)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                if setup.distance is None:
                    trained.criteria(setup.val)  # its batches are larger than those of a step
            seconds = step_seconds(trained, setup.examples)
    except FAULTS:
        return None
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        if torch.cuda.max_memory_allocated(device) > USABLE * share_of_memory * total:
            return None
    return seconds / size


def copies(trial: Trial, size: int, setup: Setup, classes: int) -> Trainer:
    """A pack of copies of a trial, with different learning rates, which take longer than equal ones."""
    config = trial.training_config
    rates = [config.learning_rate * (1 + row / size) for row in range(size)]
    configs = [config.model_copy(update={"learning_rate": rate}) for rate in rates]
    models = [trial.build_model(setup.examples, classes) for _ in configs]
    pairs = zip(models, configs, strict=True)
    return trainer([begin(model, setup, each, trial.seed).state for model, each in pairs], setup)


def step_seconds(trained: Trainer, examples: Batches) -> float:
    rows = min(len(examples), trained.members[0].config.batch_size)
    indices = examples.indices(np.tile(np.arange(rows), (len(trained.members), 1)))
    trained.step(examples, indices)
    started = _now(examples)
    trained.step(examples, indices)
    at_a_time = STEPS_AHEAD if _now(examples) - started < SECONDS / 2 else 1  # one in `STEPS_AHEAD` draws the noise
    fastest = float("inf")
    for _ in range(TURNS):
        steps, started = 0, _now(examples)
        while (ended := _now(examples)) - started < SECONDS:
            for _ in range(at_a_time):
                trained.step(examples, indices)
                steps += 1
        fastest = min(fastest, (ended - started) / steps)
    return fastest


def _now(examples: Batches) -> float:
    if examples.device.type == "cuda":
        torch.cuda.synchronize(examples.device)
    return time.perf_counter()
