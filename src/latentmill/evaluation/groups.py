"""The groups whose shares are compared, one of which a model may have lost: classes, or clusters of features."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from latentmill.evaluation.features import ClassifierFeatures

CLUSTERS = 10  # at most
FITTED = 5_000  # rows that cells are fitted to
FEWEST_OF_A_CLASS, FEWEST_OF_A_CLUSTER = 12, 45  # in a draw: the share of fewer is known too badly to be missed
LEAST_RECALL = 0.6  # of every class, for classes to count as told apart


class Cells:
    """A partition of the feature space by k-means."""

    def __init__(self, rows: np.ndarray, cells: int, seed: int) -> None:
        """`rows` (N, D); fewer cells than asked for where the first `FITTED` have fewer different ones."""
        rows = rows[:FITTED]
        different = len(np.unique(rows, axis=0))
        self.means = KMeans(min(cells, different), n_init=1, random_state=seed).fit(rows)

    def of(self, features: np.ndarray) -> np.ndarray:
        """The cell of each of `features` (N, D): (N)."""
        return np.asarray(self.means.predict(features))


@dataclass(frozen=True)
class Cut:
    """A cluster in two: rows whose product with `direction` (D) is above `limit` become cluster `new`."""

    cluster: int
    new: int
    direction: np.ndarray
    limit: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """By k-means with two means, again and again: none is too small to be missed, however uneven the data."""

    cuts: list[Cut]  # in the order in which they were made

    @classmethod
    def fit(cls, rows: np.ndarray, least: float, seed: int) -> "Clusters":
        """Of `rows` (N, D), at most `CLUSTERS`, each with a share of at least `least` of them."""
        cuts: list[Cut] = []
        found = np.zeros(len(rows), np.int64)
        while len(cuts) + 1 < CLUSTERS:
            largest = int(np.bincount(found).argmax())
            inside = np.flatnonzero(found == largest)
            share = len(inside) / len(rows)
            if share < 2 * least or len(np.unique(rows[inside], axis=0)) < 2:
                break
            cut = _halved(rows[inside], largest, len(cuts) + 1, least / share, seed)
            cuts.append(cut)
            _apply(cut, rows, found)
        return cls(cuts)

    def of(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N)."""
        found = np.zeros(len(features), np.int64)
        for cut in self.cuts:
            _apply(cut, features, found)
        return found


@dataclass(frozen=True, eq=False)
class Classes:
    """As the classifier names them."""

    features: ClassifierFeatures

    def of(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N)."""
        return self.features.classes(features)


Groups = Clusters | Classes


def are_told_apart(found: np.ndarray, labels: np.ndarray, size: int) -> bool:
    """Whether any class could be seen to be missing from `size` images: `found` (N) are the classes of new images.

    A class that the classifier takes for another leaves no gap.
    """
    names, counts = np.unique(labels, return_counts=True)
    recalls = [(found[labels == name] == name).mean() for name in names]
    return size * min(counts) / len(labels) >= FEWEST_OF_A_CLASS and min(recalls) >= LEAST_RECALL


def _halved(rows: np.ndarray, cluster: int, new: int, least: float, seed: int) -> Cut:
    """Between two means of `rows` (N, D), or as far off as gives each part a share of `least`, up to a half."""
    centres = KMeans(2, n_init=1, random_state=seed).fit(rows).cluster_centers_
    direction = centres[1] - centres[0]
    low, high = np.quantile(rows @ direction, [least, 1 - least])
    return Cut(cluster, new, direction, float(np.clip(centres.mean(0) @ direction, low, high)))


def _apply(cut: Cut, rows: np.ndarray, found: np.ndarray) -> None:
    """Moves what is above the limit from the one cluster to the other in `found` (N)."""
    inside = np.flatnonzero(found == cut.cluster)
    found[inside[rows[inside] @ cut.direction > cut.limit]] = cut.new
