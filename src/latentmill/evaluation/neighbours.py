"""The nearest training images of any image.

Of large images, those that lie nearest in a few principal components are proposed, and the nearest of these are found
in pixels. Distances among components are never above those in pixels, so where the last of those proposed lies farther
off than the neighbours found, these are the nearest of all. Where it does not, all training images are compared, while
a search of all queries takes fewer than `EXACT_PRODUCTS` multiplications; beyond, the neighbours are the nearest of
those proposed. Distances are exact in any case.

Shapes: N training images, Q queries, P pairs of both, D pixels or features, d components.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentmill.data.batches import chunk_size
from latentmill.evaluation.candidates import VALUES, Reduced, floats, nearest_rounded

K = 5  # neighbours kept of each query
SPARE = 5  # more are proposed by an exact search too, for its own distances are rounded
EXACT_PRODUCTS = 10**12  # of queries, training images and dimensions; some 20 s on a core
LARGE = 512  # values of an image, above which it pays
CHUNK = 2_000  # queries at a time
PAIR_VALUES = 2**18  # floats at a time where pairs are compared: 1 MiB, which stays in a core's cache: 0.4 of the time


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

    def __init__(self, features: np.ndarray, reduced: Reduced | None = None) -> None:
        """`features` (N, ...), floats or, of images, uint8; at least K + 1 of them, so that each has K others.

        `reduced` is what another index of the same features has made of them.

        Raises:
            ValueError: there are fewer.
        """
        if len(features) <= K:
            raise ValueError(f"neighbours need at least {K + 1} training images, but there are {len(features)}")
        self._known = features.reshape(len(features), -1)
        self._reduced = reduced

    @property
    def reduced(self) -> Reduced | None:
        """What searches rest on, where images are large. It is made once."""
        if self._reduced is None and self._known.shape[1] > LARGE:
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
        is_exact, size = len(queries) * self._known.size < EXACT_PRODUCTS, chunk_size(queries.shape[1:], CHUNK, VALUES)
        parts = [
            self._found(floats(queries[start : start + size]), k, is_exact)
            for start in range(0, max(1, len(queries)), size)
        ]
        return joined_neighbours(parts)

    def _found(self, queries: np.ndarray, k: int, is_exact: bool) -> Neighbours:
        """`queries` float32 (Q, D)."""
        if self.reduced is None:
            return self._among_all(queries, k)
        proposed = self.reduced.proposed(self.reduced(queries), also_guessed=not is_exact)
        distances = np.full(proposed.indices.shape, np.inf, np.float32)
        first = slice(k + SPARE)
        distances[:, first] = self._distances(queries, proposed.indices[:, first])
        enough = np.partition(distances, k - 1, axis=1)[:, k - 1]
        certain = (proposed.others >= enough) | (not is_exact)
        rows, columns = np.nonzero((proposed.lowest <= enough[:, None]) & np.isinf(distances) & certain[:, None])
        distances[rows, columns] = self._of_pairs(queries, rows, proposed.indices[rows, columns])
        found = _first(distances, proposed.indices, k)
        if not certain.all():
            others = self._among_all(queries[~certain], k)
            found.distances[~certain], found.indices[~certain] = others.distances, others.indices
        return found

    def _among_all(self, queries: np.ndarray, k: int) -> Neighbours:
        indices = nearest_rounded(self._known, queries, k + SPARE)[1]
        return _first(self._distances(queries, indices), indices, k)

    def _distances(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Of each of `queries` (Q, D) to the training images at its `indices` (Q, candidates)."""
        rows = np.repeat(np.arange(len(queries)), indices.shape[1])
        return self._of_pairs(queries, rows, indices.ravel()).reshape(indices.shape)

    def _of_pairs(self, queries: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Not as faiss has them, which are rounded: 0.02 for a copy of a 28x28 image. (P), (P) -> (P)."""
        found, size = np.empty(len(rows), np.float32), max(1, PAIR_VALUES // queries.shape[1])
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            differences = floats(self._known[indices[some]])
            differences -= queries[rows[some]]
            found[some] = np.sqrt(np.einsum("pd,pd->p", differences, differences))  # a fifth of np.linalg.norm's time
        return found


def joined_neighbours(parts: list[Neighbours]) -> Neighbours:
    """Of one query after the other."""
    return Neighbours(*(np.concatenate([getattr(part, of) for part in parts]) for of in ("distances", "indices")))


def nearest_metrics(samples: Neighbours, test: Neighbours) -> dict[str, float]:
    """Median distances to the nearest training image, and their ratio, unless test images are copies themselves."""
    ours, theirs = (float(np.median(found.distances[:, 0])) for found in (samples, test))
    return {"median": ours, "test_median": theirs} | ({"ratio_to_test": ours / theirs} if theirs > 0 else {})


def _first(distances: np.ndarray, indices: np.ndarray, k: int) -> Neighbours:
    """The k nearest, in order; of equally near ones the first."""
    order = np.lexsort((indices, distances))[:, :k]
    return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))
