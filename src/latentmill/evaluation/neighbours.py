"""The nearest training images of any image.

Exact while that takes fewer than `EXACT_PRODUCTS` multiplications. Beyond, those that lie nearest in a few principal
components are proposed, and the nearest of these are found exactly. Distances are exact either way.

Shapes: N training images, Q queries, P pairs of both, D pixels or features, d components.
"""

from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import torch

from latentmill.components import principal_components
from latentmill.data.batches import as_float, chunk_size

K = 5  # neighbours kept of each query
SPARE = 5  # more are proposed by an exact search too, for its own distances are rounded
EXACT_PRODUCTS = 10**12  # of queries, training images and dimensions; some 20 s on a core
COMPONENTS, PROPOSED = 128, 100  # beyond that: of the search, and its candidates for each query
ROUNDED = 0.999  # of a distance among components: what rounding may have added to it is less
FITTED = 10_000  # training images that the components are fitted to
CHUNK, VALUES = 2_000, 2**23  # queries at a time; values of images that are floats at a time, 32 MiB


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of each query, nearest first. Distances are Euclidean."""

    distances: np.ndarray  # float32 (Q, K)
    indices: np.ndarray  # int64 (Q, K), into the training images

    def __len__(self) -> int:
        return len(self.distances)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Neighbours":
        return Neighbours(self.distances[chosen], self.indices[chosen])


class TrainingSet:
    """Training images, or their features, to search in. They are not copied, and only some are floats at a time."""

    def __init__(self, features: np.ndarray, reduced: "Reduced | None" = None) -> None:
        """`features` (N, ...), floats or, of images, uint8; at least K + 1 of them, so that each has K others.

        `reduced` is what another index of the same features has made of them.

        Raises:
            ValueError: there are fewer.
        """
        if len(features) <= K:
            raise ValueError(f"neighbours need at least {K + 1} training images, but there are {len(features)}")
        self._known = features.reshape(len(features), -1)
        self._reduced = reduced

    def reduced_for(self, queries: int) -> "Reduced | None":
        """What a search of so many queries rests on; None where that is exact. It is made once."""
        if queries * self._known.size < EXACT_PRODUCTS:
            return None
        if self._reduced is None:
            self._reduced = Reduced(self._known)
        return self._reduced

    def nearest(self, queries: np.ndarray) -> Neighbours:
        """The K nearest training images of each of `queries` (Q, ...), floats or uint8; the first of equally near."""
        return self._search(queries.reshape(len(queries), -1), K)

    @cached_property
    def among_themselves(self) -> Neighbours:
        """The K nearest *other* training images of each training image."""
        return self.others(np.arange(len(self._known)))

    def others(self, chosen: np.ndarray) -> Neighbours:
        """The K nearest other training images of the training images `chosen`, indices (Q)."""
        found = self._search(self._known[chosen], K + 1)
        # A copy of an image may come before the image itself: leave out that itself, or the last if it is not there.
        others = found.indices != chosen[:, None]
        others[others.all(1), -1] = False
        return Neighbours(found.distances[others].reshape(-1, K), found.indices[others].reshape(-1, K))

    def _search(self, queries: np.ndarray, k: int) -> Neighbours:
        reduced, size = self.reduced_for(len(queries)), chunk_size(queries.shape[1:], CHUNK, VALUES)
        parts = [
            self._refined(_floats(queries[start : start + size]), k, reduced)
            for start in range(0, max(1, len(queries)), size)
        ]
        return Neighbours(*(np.concatenate([getattr(part, of) for part in parts]) for of in ("distances", "indices")))

    def _refined(self, queries: np.ndarray, k: int, reduced: "Reduced | None") -> Neighbours:
        """`queries` float32 (Q, D)."""
        if reduced is None:
            indices = _nearest(self._known, queries, k + SPARE)[1]
            distances = self._distances(queries, indices)
        else:
            lowest, indices = _nearest(reduced.known, reduced(queries), PROPOSED)
            distances = self._distances_below(queries, indices, lowest, k)
        order = np.lexsort((indices, distances))[:, :k]
        return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))

    def _distances_below(self, queries: np.ndarray, indices: np.ndarray, lowest: np.ndarray, k: int) -> np.ndarray:
        """Distances (Q, candidates), infinite where `lowest`, which they can't be below, rules a candidate out."""
        first = k + SPARE
        distances = np.full(indices.shape, np.inf, np.float32)
        distances[:, :first] = self._distances(queries, indices[:, :first])
        enough = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
        rows, columns = np.nonzero((lowest * ROUNDED <= enough) & np.isinf(distances))
        distances[rows, columns] = self._of_pairs(queries, rows, indices[rows, columns])
        return distances

    def _distances(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Of each of `queries` (Q, D) to the training images at its `indices` (Q, candidates)."""
        rows = np.repeat(np.arange(len(queries)), indices.shape[1])
        return self._of_pairs(queries, rows, indices.ravel()).reshape(indices.shape)

    def _of_pairs(self, queries: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Not as faiss has them, which are rounded: 0.02 for a copy of a 28x28 image. (P), (P) -> (P)."""
        found, size = np.empty(len(rows), np.float32), max(1, VALUES // queries.shape[1])
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            differences = _floats(self._known[indices[some]])
            differences -= queries[rows[some]]
            found[some] = np.sqrt(np.einsum("pd,pd->p", differences, differences))  # a fifth of np.linalg.norm's time
        return found


class Reduced:
    """The training images by their principal components, and as the last value the distance from the span of these.

    Distances are then never above those of the images, and below them by less than without that value.
    """

    def __init__(self, known: np.ndarray) -> None:
        """`known` (N, D)."""
        fitted = known[:: -(-len(known) // FITTED)]
        count = min(COMPONENTS - 1, len(fitted) - 1, known.shape[1] - 1)
        found = principal_components(lambda: map(torch.from_numpy, _chunks(fitted)), count)
        self._mean, self._directions = (value.float().numpy() for value in (found.mean, found.directions))
        self.known = np.concatenate([self(chunk) for chunk in _chunks(known)])  # (N, d)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 (Q, D) -> (Q, d)."""
        centred = rows - self._mean
        along = centred @ self._directions
        off = np.einsum("qd,qd->q", centred, centred) - np.einsum("qd,qd->q", along, along)
        return np.concatenate([along, np.sqrt(off.clip(0))[:, None]], axis=1)


def nearest_metrics(samples: Neighbours, test: Neighbours) -> dict[str, float]:
    """Median distances to the nearest training image, and their ratio, unless test images are copies themselves."""
    ours, theirs = (float(np.median(found.distances[:, 0])) for found in (samples, test))
    return {"median": ours, "test_median": theirs} | ({"ratio_to_test": ours / theirs} if theirs > 0 else {})


def _nearest(known: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """By the rounded distances of faiss, those and the indices: (Q, count), or as many as there are."""
    heap = faiss.ResultHeap(len(queries), min(count, len(known)))
    size = chunk_size(known.shape[1:], len(known), VALUES)
    for start in range(0, len(known), size):
        block = _floats(known[start : start + size])
        squares, indices = faiss.knn(queries, block, min(heap.k, len(block)))
        heap.add_result(squares, indices + start)
    heap.finalize()
    return np.sqrt(heap.D.clip(0)), heap.I


def _chunks(rows: np.ndarray) -> "map[np.ndarray]":
    size = chunk_size(rows.shape[1:], len(rows), VALUES)
    return map(_floats, (rows[start : start + size] for start in range(0, len(rows), size)))


def _floats(rows: np.ndarray) -> np.ndarray:
    """float32, as images are where they are not bytes."""
    return as_float(rows) if rows.dtype == np.uint8 else np.ascontiguousarray(rows, np.float32)
