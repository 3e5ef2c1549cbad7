"""Rule 2: are samples suitably different from the training data?

Each sample has a nearest training image. Test images, which no model has seen, have one too: what is usual for
them is usual for something new. Samples much closer than that are copies; much farther, they are not of the data.
Distances are Euclidean, of all pixels in [0, 1].
"""

from dataclasses import dataclass

import faiss
import numpy as np

COPY_PERCENTILE = 1  # a sample counts as close where it is closer than all but 1% of the test images


@dataclass(frozen=True)
class Neighbours:
    """The nearest training image of each query."""

    distances: np.ndarray  # float32 (N)
    indices: np.ndarray  # int64 (N), into the training images


class TrainingImages:
    """An exact index of the training images."""

    def __init__(self, images: np.ndarray) -> None:
        self._index = faiss.IndexFlatL2(int(np.prod(images.shape[1:])))
        self._index.add(_rows(images))

    def nearest(self, queries: np.ndarray) -> Neighbours:
        """The nearest training image of each of `queries` (N, C, H, W)."""
        rows = _rows(queries)
        indices = self._index.search(rows, 1)[1][:, 0]
        # not the distances of the search, which are rounded: 0.02 for a copy of a 28x28 image
        return Neighbours(np.linalg.norm(rows - self._index.reconstruct_batch(indices), axis=1), indices)


def neighbour_metrics(samples: Neighbours, test: Neighbours) -> dict[str, float]:
    """The distribution of sample -> train beside test -> train."""
    close = np.percentile(test.distances, COPY_PERCENTILE)
    return {
        "nearest_train_median": float(np.median(samples.distances)),
        "nearest_train_ratio_to_test": float(np.median(samples.distances) / np.median(test.distances)),
        "closer_than_1pct_of_test": float((samples.distances < close).mean()),
    }


def _rows(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.reshape(len(images), -1), dtype=np.float32)
