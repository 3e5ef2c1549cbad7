"""The groups whose shares are compared, one of which a model may have dropped: classes, or clusters of features."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from latentmill.features.spaces import ClassifierFeatures

CLUSTERS = 10  # at most
FITTED = 5_000  # rows that cells are fitted to
FEWEST_OF_A_CLUSTER = 45  # images in a draw: the share of fewer is too uncertain for their absence to be detected
LEAST_RECALL = 0.6  # of a class that stands alone
DEVIATIONS, LEAST_GAP = 3, 0.1  # around a class's share with and without it, and between them: see `_gaps`
PURE = 0.9  # share of a group that are of one class, for the group to stand for that class


class Cells:
    """A partition of the feature space by k-means."""

    def __init__(self, rows: np.ndarray, cells: int, seed: int) -> None:
        """`rows` (N, D); there are fewer cells where the first `FITTED` rows have fewer different ones."""
        rows = rows[:FITTED]
        different = len(np.unique(rows, axis=0))
        self.means = KMeans(min(cells, different), n_init=1, random_state=seed).fit(rows)

    def assign(self, features: np.ndarray) -> np.ndarray:
        """The cell of each of `features` (N, D): (N)."""
        return np.asarray(self.means.predict(features))


@dataclass(frozen=True)
class Cut:
    """Cuts a cluster in two: rows whose product with `direction` (D) is above `limit` become cluster `new`."""

    cluster: int
    new: int
    direction: np.ndarray
    limit: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """By repeated 2-means: no cluster is so small that its absence cannot be detected, however uneven the data."""

    cuts: list[Cut]  # in the order in which they were made

    @classmethod
    def fit(cls, rows: np.ndarray, least: float, seed: int) -> "Clusters":
        """At most `CLUSTERS` of `rows` (N, D), each with a share of at least `least`, up to a row."""
        cuts: list[Cut] = []
        found = np.zeros(len(rows), np.int64)
        while len(cuts) + 1 < CLUSTERS:
            largest = int(np.bincount(found).argmax())
            inside = np.flatnonzero(found == largest)
            share = len(inside) / len(rows)
            if share < 2 * least or len(np.unique(rows[inside], axis=0)) < 2:
                break
            cut = _halved(rows[inside], largest, len(cuts) + 1, least / share, seed)
            above = int(_is_above(cut, rows[inside]).sum())
            if min(above, len(inside) - above) <= least * len(rows) - 1:  # rows are equal there
                break
            cuts.append(cut)
            _apply(cut, rows, found)
        return cls(cuts)

    def assign(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N)."""
        found = np.zeros(len(features), np.int64)
        for cut in self.cuts:
            _apply(cut, features, found)
        return found


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes that the classifier predicts; some are joined."""

    features: ClassifierFeatures
    joined: np.ndarray  # the group of each class that the features know

    def assign(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N)."""
        return np.asarray(self.joined[self.features.classes(features)])

    def assign_labels(self, labels: np.ndarray) -> np.ndarray:
        """(N) -> (N); a rare class that the features do not know has the group of another."""
        names = self.features.class_names
        return np.asarray(self.joined[np.searchsorted(names, labels).clip(max=len(names) - 1)])


Groups = Clusters | Classes


def joined_classes(found: np.ndarray, true: np.ndarray, size: int, classes: int) -> np.ndarray | None:
    """The group of each class (classes), such that the absence of any group from `size` images can be detected.

    `found` and `true` (N) are the predicted and the true classes of new images. The absence of a class leaves no gap if
    the classifier confuses it with others, or if it has few images: each such class is joined to the one with which it
    is confused most. None where fewer than 2 groups, with half of the images, are still nearly one class each.
    """
    group = np.arange(classes)
    while len(names := np.unique(group)) > 1:
        confused = _confused(group[found], group[true], classes)[np.ix_(names, names)]
        counts = confused.sum(1)
        recalls = confused.diagonal() / np.maximum(counts, 1)
        unclear = (_gaps(confused, size) < LEAST_GAP) | (recalls < LEAST_RECALL)
        if not unclear.any():
            break
        worst = int(np.where(unclear, counts, np.inf).argmin())
        into = _joined_to(worst, confused + confused.T, unclear, counts)
        group[group == names[worst]] = names[into]
    return np.unique(group, return_inverse=True)[1] if _are_classes(group[true], true) else None


def balanced_recall(found: np.ndarray, true: np.ndarray) -> float:
    """The mean over the classes of the share of their images that are predicted correctly; both are (N)."""
    return float(np.mean([(found[true == name] == name).mean() for name in np.unique(true)]))


def _confused(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix (classes, classes): a row for each true class."""
    return np.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)


def _gaps(confused: np.ndarray, size: int) -> np.ndarray:
    """By how much each group's share in `size` images falls when it is missing, over its share with it: (G).

    From the lowest share with the group to the highest that confusions leave without it, each by `DEVIATIONS`.
    """
    total, found = confused.sum(), np.maximum(confused.sum(0), 1)
    share = found / total
    mistaken = (found - confused.diagonal()) / np.maximum(total - confused.sum(1), 1)  # where it is missing
    lowest = 1 - DEVIATIONS * np.sqrt((1 - share) / (share * size))
    highest = (mistaken + DEVIATIONS * np.sqrt(mistaken / size)) / share
    return np.asarray(lowest - highest)


def _joined_to(worst: int, mistaken: np.ndarray, unclear: np.ndarray, counts: np.ndarray) -> int:
    """The group with which it is confused most; among equals one that is unclear too, and of these the smallest."""
    others = np.delete(np.arange(len(counts)), worst)
    order = np.lexsort((counts[others], ~unclear[others], -mistaken[worst, others]))
    return int(others[order[0]])


def _are_classes(groups: np.ndarray, true: np.ndarray) -> bool:
    """Whether the groups of images (N) are mostly single classes."""
    pure = []
    for group in np.unique(groups):
        counts = np.unique(true[groups == group], return_counts=True)[1]
        if counts.max() >= PURE * counts.sum():
            pure.append(counts.sum())
    return len(pure) > 1 and sum(pure) >= len(true) / 2


def _halved(rows: np.ndarray, cluster: int, new: int, least: float, seed: int) -> Cut:
    """Between two means of `rows` (N, D), or shifted so far that each part has a share of at least `least`."""
    centres = KMeans(2, n_init=1, random_state=seed).fit(rows).cluster_centers_
    direction = centres[1] - centres[0]
    low, high = np.quantile(rows @ direction, [least, 1 - least])
    return Cut(cluster, new, direction, float(np.clip(centres.mean(0) @ direction, low, high)))


def _apply(cut: Cut, rows: np.ndarray, found: np.ndarray) -> None:
    """Moves the rows above the limit from the one cluster to the other in `found` (N)."""
    inside = np.flatnonzero(found == cut.cluster)
    found[inside[_is_above(cut, rows[inside])]] = cut.new


def _is_above(cut: Cut, rows: np.ndarray) -> np.ndarray:
    """(N, D) -> bool (N)."""
    return np.asarray(rows @ cut.direction > cut.limit)
