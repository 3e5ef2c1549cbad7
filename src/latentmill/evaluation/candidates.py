"""Candidates for the nearest training images of an image, found in a few principal components.

Shapes: N training images, Q queries, D pixels or features, d components.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from latentmill.components import principal_components
from latentmill.data.batches import as_float, chunk_size, gathered

ROUNDED = 0.999  # times a distance in components: more than rounding may have added to it
FITTED, PASSES = 10_000, 4  # training images that components are fitted to, and passes over them: they may be rough
COMPONENTS, PROPOSED, GUESSED = 128, 100, 50  # of the search in components, and its candidates for each query
VALUES = 2**23  # of images that are floats at a time, 32 MiB

# Faiss compares pair after pair, not by matrix products, where queries have fewer values in all than this, by default
# 128,000. On one core, which a process has here, that takes six times as long (facebookresearch/faiss, pull 5109).
faiss.cvar.distance_compute_blas_threshold = 1


@dataclass(frozen=True)
class Proposed:
    """Candidates for the neighbours of each query."""

    indices: np.ndarray  # int64 (Q, candidates), into the training images
    lowest: np.ndarray  # float32 (Q, candidates), lower bounds of their distances; infinite for one that is repeated
    others: np.ndarray  # float32 (Q), a lower bound of the distances of all other training images


class Reduced:
    """The principal components of the training images, and as the last value the distance from their span."""

    def __init__(self, known: np.ndarray) -> None:
        """`known` (N, D)."""
        fitted = known[:: -(-len(known) // FITTED)]
        count = min(COMPONENTS - 1, len(fitted) - 1, known.shape[1] - 1)
        found = principal_components(lambda: map(torch.from_numpy, _chunks(fitted)), count, passes=PASSES)
        self._mean, self._directions = (value.float().numpy() for value in (found.mean, found.directions))
        self.known = gathered(map(self, _chunks(known)), len(known))  # (N, d)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 (Q, D) -> (Q, d)."""
        centred = rows - self._mean
        along = centred @ self._directions
        centred -= along @ self._directions.T
        return np.concatenate([along, np.linalg.norm(centred, axis=1)[:, None]], axis=1)

    def proposed(self, queries: np.ndarray, also_guessed: bool) -> Proposed:
        """The nearest to `queries` (Q, d) by a lower bound of the distance in pixels, which finds copies.

        With `also_guessed` also the nearest if the parts outside of the span are assumed to be orthogonal, as they are
        about for images far from all others, for which the bounds are of no use.
        """
        lowest, indices = nearest_rounded(self.known, queries, PROPOSED)
        others = lowest[:, -1] * ROUNDED if indices.shape[1] < len(self.known) else np.full(len(queries), np.inf)
        if also_guessed:
            within = np.concatenate([queries[:, :-1], np.zeros((len(queries), 1), np.float32)], axis=1)
            guessed = nearest_rounded(self.known, within, GUESSED)[1]
            bounds = np.linalg.norm(self.known[guessed] - queries[:, None], axis=2)
            bounds[(guessed[:, :, None] == indices[:, None]).any(2)] = np.inf
            lowest, indices = np.concatenate([lowest, bounds], axis=1), np.concatenate([indices, guessed], axis=1)
        return Proposed(indices, lowest * ROUNDED, others)


def nearest_rounded(known: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rounded distances of faiss and the indices of the nearest: both (Q, count), or as many as there are."""
    heap = faiss.ResultHeap(len(queries), min(count, len(known)))
    size = chunk_size(known.shape[1:], len(known), VALUES)
    for start in range(0, len(known), size):
        block = floats(known[start : start + size])
        squares, indices = faiss.knn(queries, block, min(heap.k, len(block)))
        heap.add_result(squares, indices + start)
    heap.finalize()
    return np.sqrt(heap.D.clip(0)), heap.I


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    size = chunk_size(rows.shape[1:], len(rows), VALUES)
    return map(floats, (rows[start : start + size] for start in range(0, len(rows), size)))


def floats(rows: np.ndarray) -> np.ndarray:
    """As float32."""
    return as_float(rows) if rows.dtype == np.uint8 else np.ascontiguousarray(rows, np.float32)
