"""Batches as index selections from memory: no loader, no worker processes, no copy of the whole set on the CPU."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

Indices = np.ndarray | Tensor  # on a GPU a tensor that lies there
CHUNK, CHUNK_VALUES = 500, 2**23  # images at a time, and pixel values: 32 MiB of floats, before any network sees them


class Batches:
    """uint8 images (N, C, H, W), handed out as float32 in [0, 1] on a device.

    On the CPU only the selected images are copied, so the array may be shared, read-only memory, or mapped from a
    file. On a GPU the whole set is moved there once, as bytes.
    """

    def __init__(self, images: np.ndarray, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.length, self.image_shape = len(images), (images.shape[1], images.shape[2], images.shape[3])
        plain = np.asarray(images)  # np.memmap's own indexing is slow
        self._images = plain if self.device.type == "cpu" else torch.tensor(plain, device=self.device)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Indices | slice) -> Tensor:
        """(N, C, H, W) uint8 at `index` -> (B, C, H, W) float32 in [0, 1]."""
        chosen = self._images[index]
        if isinstance(chosen, np.ndarray):
            chosen = torch.tensor(chosen) if isinstance(index, slice) else torch.from_numpy(chosen)
        return chosen.to(torch.float32).div_(255)

    def chunks(self) -> Iterator[Tensor]:
        """All images in order, `chunk_size` at a time."""
        size = chunk_size(self.image_shape)
        return (self[start : start + size] for start in range(0, len(self), size))

    def epoch(self, batch_size: int, generators: Sequence[torch.Generator]) -> Iterator[Indices]:
        """The indices of all images once, a batch (M, B) at a time; each of M rows in an order of its own.

        Orders are drawn from `generators` (M), on the CPU. The last batch may be smaller.
        """
        orders = [torch.randperm(len(self), generator=generator).numpy() for generator in generators]
        indices = self.indices(np.stack(orders))
        return (indices[:, start : start + batch_size] for start in range(0, len(self), batch_size))

    def indices(self, indices: np.ndarray) -> Indices:
        """Brought to where the images are; a step that brought its own would wait for the GPU to end the last."""
        return indices if self.device.type == "cpu" else torch.from_numpy(indices).to(self.device)


def chunk_size(shape: tuple[int, ...], most: int = CHUNK, values: int = CHUNK_VALUES) -> int:
    """How many images of a shape are floats at a time: at most `most`, and so many that they have `values` together."""
    return max(1, min(most, values // math.prod(shape)))


def as_float(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]: for a few of them, because that takes four times the memory."""
    return np.divide(images, np.float32(255), dtype=np.float32)
