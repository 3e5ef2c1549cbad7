"""The small convolutional network behind learned features, and how any network is applied to images."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.codes import float_array
from latentmill.data.batches import as_float, chunk_size, gathered
from latentmill.networks import Shape

WIDTH = 64  # features
SIDE = 24  # pixels, about, of the network's input: larger images are averaged down, to save time
CHUNK = 500  # images at a time, or fewer where they are large


def encoder(image_shape: Shape) -> nn.Sequential:
    """(B, C, H, W) -> (B, WIDTH), for any size. The normalisation prevents dead units, which would be no features."""
    network = nn.Sequential(
        smaller(image_shape),
        *_convolution(image_shape[0], 16, nn.MaxPool2d(2, ceil_mode=True)),  # (B, 16, H/2, W/2)
        *_convolution(16, 32, nn.MaxPool2d(2, ceil_mode=True)),  #              (B, 32, H/4, W/4)
        *_convolution(32, 64, nn.AdaptiveMaxPool2d(2)),  #                      (B, 64, 2, 2)
        nn.Flatten(),
        nn.Linear(256, WIDTH, bias=False),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(),
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third less time; torch's stub lacks it
    return network


def smaller(image_shape: Shape) -> nn.Module:
    """Averages images down to the input size of the encoder: 28 pixels stay as they are, 64 become 22."""
    times = max(1, round(max(image_shape[1:]) / SIDE))
    return nn.AvgPool2d(times, ceil_mode=True) if times > 1 else nn.Identity()


def map_chunks(make: Callable[[np.ndarray], np.ndarray], count: int, size: int = CHUNK) -> np.ndarray:
    """The concatenated results of `make` for the indices below `count`, `size` of them at a time."""
    return gathered((make(np.arange(start, min(start + size, count))) for start in range(0, count, size)), count)


@torch.no_grad()
def apply(network: Callable[[Tensor], Tensor], images: np.ndarray, chunk: int | None = None) -> np.ndarray:
    """Images uint8 (N, C, H, W), or float32 in [0, 1], which may be mapped from disk -> float32 (N, D)."""
    size = chunk_size(images.shape[1:], chunk or CHUNK)
    return map_chunks(lambda some: float_array(network(_floats(images[some[0] : some[-1] + 1]))), len(images), size)


def digest_of_weights(network: nn.Module) -> str:
    return digest(*(float_array(weight) for weight in network.state_dict().values()))


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays, their shapes and types included."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _floats(images: np.ndarray) -> Tensor:
    """A copy, in [0, 1]; torch refuses a mirrored view."""
    return torch.tensor(as_float(images) if images.dtype == np.uint8 else np.ascontiguousarray(images))


def _convolution(inputs: int, outputs: int, pool: nn.Module) -> tuple[nn.Module, ...]:
    """Pools before it normalises, which then takes a quarter of the work."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), pool, nn.BatchNorm2d(outputs), nn.ReLU()
