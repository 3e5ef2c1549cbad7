"""How many trials of a shape are best computed as one program, by a short measurement."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from latentmill.data.batches import Batches
from latentmill.training.loop import begin
from latentmill.training.noise import STEPS_AHEAD
from latentmill.training.stack import stack
from latentmill.training.step import Stack
from latentmill.trials.packs import FAULTS
from latentmill.trials.trial import Trial, config_of, model_of

GROWTH = 4  # each size tried is so many times the last
GAIN = 1.1  # a larger stack must be faster by this factor for each member, or it only costs memory
MISSES = 2  # sizes in a row that gain too little: vmap's own time can hide that a larger stack would pay
SECONDS, TURNS = 0.02, 5  # that steps of each size are timed for; the fastest turn is the one that nothing disturbed
SLOW_STEP = 0.004  # seconds on a CPU: such a step is arithmetic, which no stack saves
USABLE = 0.8  # of the memory


def best_size(trial: Trial, images: Batches, val: Batches, most: int, share_of_memory: float = 1.0) -> int:
    """Between 1 and `most`; on a GPU no more than fit in a share of its memory.

    Sizes grow until some in a row make a member's step no shorter. On a CPU, where a worker has one core, a trial whose
    step takes long alone is not tried with others.
    """
    best, fastest, misses = 1, float("inf"), 0
    for size in _sizes(most):
        seconds = _seconds_a_member(trial, size, images, val, share_of_memory)
        if seconds is None:
            break
        if seconds * GAIN > fastest:
            misses += 1
            if misses == MISSES:
                break
            continue
        best, fastest, misses = size, seconds, 0
        if images.device.type == "cpu" and seconds > SLOW_STEP:
            break
    return best


def _sizes(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        size *= GROWTH
    yield most


def _seconds_a_member(trial: Trial, size: int, images: Batches, val: Batches, share_of_memory: float) -> float | None:
    """Of a step of a stack of `size`; None where it does not fit, or can't be computed so at all."""
    try:
        with _one_thread():
            trained = stack_of(trial, size, images)
            if images.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(images.device)
                trained.criteria(val)  # its batches are larger than those of a step
            seconds = seconds_a_step(trained, images)
    except FAULTS:
        return None
    if images.device.type == "cuda":
        _, total = torch.cuda.mem_get_info(images.device)
        if torch.cuda.max_memory_allocated(images.device) > USABLE * share_of_memory * total:
            return None
    return seconds / size


def stack_of(trial: Trial, size: int, images: Batches) -> Stack:
    """Fresh copies of a trial, whose learning rates differ: that takes a step more than rates that are all the same."""
    config = config_of(trial)
    configs = [
        config.model_copy(update={"learning_rate": config.learning_rate * (1 + row / size)}) for row in range(size)
    ]
    return stack([begin(model_of(trial, images), images, each, trial.seed).progress for each in configs])


def seconds_a_step(trained: Stack, images: Batches) -> float:
    rows = min(len(images), trained.members[0].config.batch_size)
    indices = images.indices(np.tile(np.arange(rows), (len(trained.members), 1)))
    trained.step(images, indices)
    started = _now(images)
    trained.step(images, indices)
    at_a_time = STEPS_AHEAD if _now(images) - started < SECONDS / 2 else 1  # in one of so many their noise is drawn
    fastest = float("inf")
    for _ in range(TURNS):
        steps, started = 0, _now(images)
        while (ended := _now(images)) - started < SECONDS:
            for _ in range(at_a_time):
                trained.step(images, indices)
                steps += 1
        fastest = min(fastest, (ended - started) / steps)
    return fastest


def _now(images: Batches) -> float:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter()


@contextmanager
def _one_thread() -> Iterator[None]:
    """As workers have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
