"""Batches as index selections from memory: no loader, no worker processes, no copy of the whole set on the CPU.

Shapes: N examples, B of them in a batch, M members of a pack.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

Indices = np.ndarray | Tensor  # on a GPU a tensor that lies there
CHUNK, CHUNK_VALUES = 500, 2**22  # images at a time, and pixel values: 16 MiB of floats as input


class Batches:
    """Examples, selected as float32 on a device, with their labels if there are any.

    Images are uint8 (N, C, H, W), and become float32 in [0, 1]. Codes, of any shape, stay as they are.

    On the CPU only the selected examples are copied, so the array may be shared, read-only memory, or mapped from a
    file. On a GPU the whole set is moved there once, as bytes.
    """

    def __init__(
        self,
        examples: np.ndarray,
        device: torch.device | str = "cpu",
        labels: np.ndarray | None = None,
        entries: int = 0,
    ) -> None:
        """`labels` int64 (N), if any, are indices into the classes; codes that are indices are below `entries`."""
        self.device = torch.device(device)
        self.length, self.shape = len(examples), tuple(examples.shape[1:])
        self.name = "image" if examples.dtype == np.uint8 else "code"  # in a batch
        self.labels, self.entries = labels, entries
        self._examples, self._labels = self._placed(examples), None if labels is None else self._placed(labels)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Indices | slice) -> Tensor:
        """The examples at `index`: images (B, C, H, W) float32 in [0, 1], or codes (B, …)."""
        chosen = _tensor(self._examples[index], index)
        return chosen.to(torch.float32).div_(255) if self.name == "image" else chosen

    def batch(self, index: Indices | slice) -> dict[str, Tensor]:
        """The same as `image` or `code`, and `label` int64 (B) if there are labels."""
        found = {self.name: self[index]}
        return found if self._labels is None else found | {"label": _tensor(self._labels[index], index)}

    def slices(self) -> list[slice]:
        """All examples in order, `chunk_size` at a time."""
        size = chunk_size(self.shape)
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def chunks(self) -> Iterator[Tensor]:
        """The examples of each of `slices`."""
        return (self[part] for part in self.slices())

    def rows(self) -> Iterator[Tensor]:
        """The same as rows of values: each (B, D)."""
        return (chunk.flatten(1) for chunk in self.chunks())

    def _placed(self, array: np.ndarray) -> Indices:
        plain = np.asarray(array)  # np.memmap's own indexing is slow
        return plain if self.device.type == "cpu" else torch.tensor(plain, device=self.device)

    def epoch(self, batch_size: int, generators: Sequence[torch.Generator]) -> Iterator[Indices]:
        """The indices of all examples in batches (M, B); each of the M rows has its own order.

        Orders are drawn from `generators` (M), on the CPU. The last batch may be smaller.
        """
        orders = [torch.randperm(len(self), generator=generator).numpy() for generator in generators]
        indices = self.indices(np.stack(orders))
        return (indices[:, start : start + batch_size] for start in range(0, len(self), batch_size))

    def indices(self, indices: np.ndarray) -> Indices:
        """Indices on the device of the examples; copying them at each step would wait for the GPU."""
        return indices if self.device.type == "cpu" else torch.from_numpy(indices).to(self.device)


def _tensor(chosen: Indices, index: Indices | slice) -> Tensor:
    """What was selected; a slice of an array would be a view of memory that may be read-only."""
    if isinstance(chosen, np.ndarray):
        return torch.tensor(chosen) if isinstance(index, slice) else torch.from_numpy(chosen)
    return chosen


def chunk_size(shape: tuple[int, ...], most: int = CHUNK, values: int = CHUNK_VALUES) -> int:
    """How many images of a shape to convert to floats at a time: at most `most` images and `values` pixel values."""
    return max(1, min(most, values // math.prod(shape)))


def gathered(parts: Iterable[np.ndarray], count: int) -> np.ndarray:
    """`count` rows (count, …) that come in parts, one after the other; at least one.

    Each is copied as it comes: small arrays that lie among large temporaries would keep the memory of these, which made
    15 GB of the features of 700,000 images.
    """
    found, start = None, 0
    for part in parts:
        if found is None:
            found = np.empty((count, *part.shape[1:]), part.dtype)
        found[start : start + len(part)] = part
        start += len(part)
    assert found is not None
    return found


def as_float(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]: for a few of them, because that takes four times the memory."""
    return np.divide(images, np.float32(255), dtype=np.float32)
