"""A diffusion model of smalldiffusion, trained and sampled by its own loops: few images it learns by heart.

It needs `pip install smalldiffusion`, which is no extra of this project: torchvision and others come with it.
Shapes: N images, D pixels.
"""

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from smalldiffusion import PredX0, Scaled, ScheduleLogLinear, TimeInputMLP, samples, training_loop
from torch import Tensor, nn

from latentmill.data.batches import as_float
from latentmill.evaluation.sampling import as_uint8
from latentmill.trials.auto import native_precision

HIDDEN, BATCH, RATE, EXTRAPOLATION = (512, 512, 512), 256, 1e-3, 2.0
SCHEDULE = ScheduleLogLinear(1_000, sigma_min=0.02, sigma_max=10)


class Shuffled:
    """One epoch of so many batches of random examples (N, D)."""

    def __init__(self, examples: Tensor, batches: int) -> None:
        self.examples, self.batches = examples, batches

    def __iter__(self) -> Iterator[Tensor]:
        return (self.examples[torch.randint(len(self.examples), (BATCH,))] for _ in range(self.batches))


def trained(images: np.ndarray, steps: int, seed: int) -> nn.Module:
    """Trained on images uint8 (N, C, H, W); the rate falls to 0 as half a cosine."""
    torch.manual_seed(seed)
    examples = torch.from_numpy(as_float(images)).flatten(1) * 2 - 1
    model: nn.Module = PredX0(Scaled(TimeInputMLP))(examples.shape[1], hidden_dims=HIDDEN)
    has_bfloat16 = (
        native_precision(on_gpu=False)[0] == "bfloat16"
    )  # elsewhere it is emulated, and takes many times as long
    # Without its cache, or the first weights would be used throughout.
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16, cache_enabled=False):
        for step, state in enumerate(training_loop(Shuffled(examples, steps), model, SCHEDULE, epochs=1, lr=RATE)):
            state.optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
    return model


def sampled(model: nn.Module, shape: tuple[int, ...], count: int, steps: int, seed: int) -> np.ndarray:
    """`count` samples by so many steps of the sampler that smalldiffusion calls accelerated: uint8 (count, *shape)."""
    torch.manual_seed(seed)
    drawn = samples(model, SCHEDULE.sample_sigmas(steps), gam=EXTRAPOLATION, batchsize=count)
    (last,) = deque(drawn, maxlen=1)
    return as_uint8((last.reshape(count, *shape).numpy() + 1) / 2)
