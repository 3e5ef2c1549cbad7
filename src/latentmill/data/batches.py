"""Batches as index selections from memory: no loader, no worker processes, no copy of the whole set on the CPU."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class Batches:
    """uint8 images (N, C, H, W), handed out as float32 in [0, 1] on a device.

    On the CPU only the selected images are copied, so the array may be shared, read-only memory. On a GPU the
    whole set is moved there once, as bytes.
    """

    def __init__(self, images: np.ndarray, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.length, self.image_shape = len(images), (images.shape[1], images.shape[2], images.shape[3])
        self._images = images if self.device.type == "cpu" else torch.tensor(images, device=self.device)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: np.ndarray | slice) -> Tensor:
        """(N, C, H, W) uint8 at `index` -> (B, C, H, W) float32 in [0, 1]."""
        chosen = self._images[index]
        if isinstance(chosen, np.ndarray):
            chosen = torch.tensor(chosen) if isinstance(index, slice) else torch.from_numpy(chosen)
        return chosen.to(torch.float32).div_(255)

    def chunks(self, size: int = 500) -> Iterator[Tensor]:
        """All images in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
        """The indices of all images once, in an order drawn from `generator` (on the CPU), a batch (B) at a time.

        The last batch may be smaller.
        """
        order = torch.randperm(len(self), generator=generator).numpy()
        return (order[start : start + batch_size] for start in range(0, len(self), batch_size))


def as_float(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]."""
    return images.astype(np.float32) / 255
