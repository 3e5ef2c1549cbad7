"""The nearest training images of any image.

For large images, candidates are the nearest in a few principal components, and the nearest of these in pixels are the
neighbours. Distances in components never exceed those in pixels, so the neighbours are the nearest of all if the last
candidate is farther away in components than they are in pixels. If it is not, all training images are compared, as
long as a search of all queries takes fewer than `EXACT_PRODUCTS` multiplications; beyond that, the neighbours are the
nearest of the candidates. Distances are exact in any case.

Shapes: N training images, Q queries, P pairs of both, D pixels or features, d components.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import chunk_size
from latentmill.evaluation.candidates import VALUES, Reduced, floats, nearest_rounded

K = 5  # neighbours kept of each query
SPARE = 5  # additional candidates of an exact search, because its own distances are rounded
EXACT_PRODUCTS = 10**12  # of queries, training images and dimensions; some 20 s on a core
LARGE = 512  # values of an image, above which the search in components is faster
CHUNK = 2_000  # queries at a time
PAIR_VALUES = 2**18  # floats at a time where pairs are compared: 1 MiB stays in a core's cache, and takes 0.4 the time


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of each query, nearest first. Distances are Euclidean."""

    distances: np.ndarray  # float32 (Q, K)
    indices: np.ndarray  # int64 (Q, K), into the training images
    mirrored: np.ndarray | None = None  # bool (Q), whether these are the neighbours of the mirror image; None: of none

    def __len__(self) -> int:
        return len(self.distances)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Neighbours":
        turned = None if self.mirrored is None else self.mirrored[chosen]
        return Neighbours(self.distances[chosen], self.indices[chosen], turned)

    def images(self, train: np.ndarray) -> np.ndarray:
        """The neighbours among `train` (N, C, H, W): (Q, K, C, H, W), mirrored where those of a mirror image are."""
        found = np.asarray(train[self.indices])
        if self.mirrored is not None:
            found[self.mirrored] = mirrored(found[self.mirrored])
        return found


class TrainingSet:
    """Training images, or their features, to search in. They are not copied, and are converted to floats in chunks."""

    def __init__(self, features: np.ndarray, reduced: Reduced | None = None) -> None:
        """`features` (N, ...), floats or, of images, uint8; at least K + 1 of them, so that each has K others.

        `reduced` is that of another index of the same features.

        Raises:
            ValueError: there are fewer.
        """
        if len(features) <= K:
            raise ValueError(f"neighbours need at least {K + 1} training images, but there are {len(features)}")
        self._known = features.reshape(len(features), -1)
        self._reduced = reduced

    @property
    def reduced(self) -> Reduced | None:
        """The principal components that searches use if images are large. They are computed once."""
        if self._reduced is None and self._known.shape[1] > LARGE:
            self._reduced = Reduced(self._known)
        return self._reduced

    def nearest(self, queries: np.ndarray, mirrored: np.ndarray | None = None, total: int | None = None) -> Neighbours:
        """The K nearest training images of each of `queries` (Q, ...), floats or uint8; the first of equally near.

        With `mirrored`, the same queries mirrored, the neighbours are those of an image or of its mirror image,
        whichever has a nearer one. The search is as exact as one of `total` queries; None: of these.
        """
        found = self._search(queries, K, total)
        return found if mirrored is None else _nearer(found, self._search(mirrored, K, total))

    @cached_property
    def among_themselves(self) -> Neighbours:
        """The K nearest *other* training images of each training image."""
        return self.others(np.arange(len(self._known)))

    def others(self, chosen: np.ndarray, mirrored: np.ndarray | None = None) -> Neighbours:
        """The K nearest other training images of the training images `chosen`, indices (Q).

        `mirrored` (Q, ...), if any, are these mirrored, as in `nearest`.
        """
        found = self._others(self._known[chosen], chosen)
        return found if mirrored is None else _nearer(found, self._others(mirrored, chosen))

    def _others(self, queries: np.ndarray, chosen: np.ndarray) -> Neighbours:
        found = self._search(queries, K + 1)
        # A copy may come before the image itself: leave out the image itself, or the last if it is not among them.
        others = found.indices != chosen[:, None]
        others[others.all(1), -1] = False
        return Neighbours(found.distances[others].reshape(-1, K), found.indices[others].reshape(-1, K))

    def _search(self, queries: np.ndarray, k: int, total: int | None = None) -> Neighbours:
        """`queries` (Q, ...), of which a mirrored view is copied in chunks."""
        is_exact = (len(queries) if total is None else total) * self._known.size < EXACT_PRODUCTS
        size = chunk_size(queries.shape[1:], CHUNK, VALUES)
        chunks = (queries[start : start + size] for start in range(0, max(1, len(queries)), size))
        width = self._known.shape[1]
        return joined_neighbours(
            [self._search_chunk(floats(chunk.reshape(len(chunk), width)), k, is_exact) for chunk in chunks]
        )

    def _search_chunk(self, queries: np.ndarray, k: int, is_exact: bool) -> Neighbours:
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
        distances[rows, columns] = self._pair_distances(queries, rows, proposed.indices[rows, columns])
        found = _k_nearest(distances, proposed.indices, k)
        if not certain.all():
            others = self._among_all(queries[~certain], k)
            found.distances[~certain], found.indices[~certain] = others.distances, others.indices
        return found

    def _among_all(self, queries: np.ndarray, k: int) -> Neighbours:
        indices = nearest_rounded(self._known, queries, k + SPARE)[1]
        return _k_nearest(self._distances(queries, indices), indices, k)

    def _distances(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """From each of `queries` (Q, D) to the training images at its `indices` (Q, candidates)."""
        rows = np.repeat(np.arange(len(queries)), indices.shape[1])
        return self._pair_distances(queries, rows, indices.ravel()).reshape(indices.shape)

    def _pair_distances(self, queries: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """(P), (P) -> (P). Those of faiss are rounded: 0.02 for a copy of a 28x28 image."""
        found, size = np.empty(len(rows), np.float32), max(1, PAIR_VALUES // queries.shape[1])
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            differences = floats(self._known[indices[some]])
            differences -= queries[rows[some]]
            found[some] = np.sqrt(np.einsum("pd,pd->p", differences, differences))  # a fifth of np.linalg.norm's time
        return found


def joined_neighbours(parts: list[Neighbours]) -> Neighbours:
    """The neighbours of one part of the queries after the other."""
    mirrored = [part.mirrored for part in parts if part.mirrored is not None]
    return Neighbours(
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate(mirrored) if mirrored else None,
    )


def nearest_metrics(samples: Neighbours, test: Neighbours) -> dict[str, float]:
    """Median distances to the nearest training image, and their ratio, unless that of test images is 0."""
    ours, theirs = (float(np.median(found.distances[:, 0])) for found in (samples, test))
    return {"median": ours, "test_median": theirs} | ({"ratio_to_test": ours / theirs} if theirs > 0 else {})


def chosen_neighbours(chosen: np.ndarray, some: Neighbours, others: Neighbours) -> Neighbours:
    """Of the queries that are `chosen`, bool (Q), the neighbours of `some`, and of the rest those of `others`."""
    rows = chosen[:, None]
    distances = np.where(rows, some.distances, others.distances)
    indices = np.where(rows, some.indices, others.indices)
    if some.mirrored is None or others.mirrored is None:
        return Neighbours(distances, indices)
    return Neighbours(distances, indices, np.where(chosen, some.mirrored, others.mirrored))


def _nearer(direct: Neighbours, mirrored: Neighbours) -> Neighbours:
    """Of each query those that begin with the nearer one."""
    turned = mirrored.distances[:, 0] < direct.distances[:, 0]
    return replace(chosen_neighbours(turned, mirrored, direct), mirrored=turned)


def _k_nearest(distances: np.ndarray, indices: np.ndarray, k: int) -> Neighbours:
    """The k nearest, in order; among equally near ones the first."""
    order = np.lexsort((indices, distances))[:, :k]
    return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))
