"""What every measure compares with: the training and test images, as one feature space shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latentmill.data.batches import as_float, chunk_size
from latentmill.evaluation.controls import Population
from latentmill.evaluation.copies import exact_copy_distance, near_copy_threshold
from latentmill.evaluation.corruptions import noisy
from latentmill.evaluation.encoder import in_chunks
from latentmill.evaluation.features import Features
from latentmill.evaluation.fidelity import bandwidth, radii, vendi_score
from latentmill.evaluation.groups import FEWEST_OF_A_CLUSTER, FITTED, Cells, Classes, Clusters, Groups
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, joined_neighbours

CELLS = 10  # of C_T
REFERENCE = 1_000  # test images, and training images, for measures whose time grows with their square
USUAL = 2_000  # training images that show what is usual among them
LARGEST = 5_000  # test images

Chosen = np.ndarray | slice


@dataclass(frozen=True)
class View:
    """Images as rule 1 looks at them."""

    features: np.ndarray  # float32 (N, D)
    groups: np.ndarray  # (N)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: Chosen) -> "View":
        return View(self.features[chosen], self.groups[chosen])


@dataclass(frozen=True)
class CopyView:
    """Images as rule 2 looks at them."""

    features: np.ndarray  # float32 (N, D)
    nearest: Neighbours  # training images
    own: np.ndarray  # float32 (N), how far the nearest of them is from its own nearest
    cells: np.ndarray  # (N), by k-means

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: Chosen) -> "CopyView":
        return CopyView(self.features[chosen], self.nearest[chosen], self.own[chosen], self.cells[chosen])


def joined(parts: Sequence[Any]) -> Any:
    """Views of one kind, one after the other."""
    kind, values = type(parts[0]), [vars(part) for part in parts]
    return kind(**{name: _joined([each[name] for each in values]) for name in values[0]})


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Neighbours):
        return joined_neighbours(parts)
    return np.concatenate(parts)


class Space:
    """A feature space, with real images in it, for rule 1."""

    def __init__(self, features: Features, test: np.ndarray, seed: int, size: int = 500) -> None:
        """`test` is (M, C, H, W), uint8 or float32 in [0, 1]. Groups are clusters to be missed among `size` images.

        Neither the features nor the images judged must know the test images: then both see them alike.

        Raises:
            TooFew: there are fewer than 2 of them.
        """
        self.name, self.digest, self.features = features.name, features.digest, features
        rows = _features_of(features, test, LARGEST, seed)
        self.dimensions = rows.shape[1]
        self.some_test = rows[:REFERENCE]  # float32 (R, D)
        self.bandwidth = bandwidth(self.some_test)
        self.groups: Groups = Clusters.fit(rows, FEWEST_OF_A_CLUSTER / size, seed)
        self.test = self.view_of(rows)
        self.real_groups = self.test.groups  # (N)
        self._vendi_scores: dict[int, float] = {}  # by the number of test images

    def group_by(self, groups: Groups, more: np.ndarray) -> None:
        """With the features (N, D) of `more` real images whose shares of the groups are those of the world."""
        self.groups = groups
        self.test = self.view_of(self.test.features)
        self.real_groups = np.concatenate([self.test.groups, groups.of(more)])

    @property
    def mode(self) -> str:
        """What a group is, in words: another in each space."""
        return "class" if isinstance(self.groups, Classes) else f"cluster of {self.name}"

    @cached_property
    def radii(self) -> np.ndarray:
        """Of `some_test`, (R)."""
        return radii(self.some_test)

    def test_vendi_score(self, count: int) -> float:
        """Of the first `count` of `some_test`."""
        if count not in self._vendi_scores:
            self._vendi_scores[count] = vendi_score(self.some_test[:count], self.bandwidth)
        return self._vendi_scores[count]

    def view(self, images: np.ndarray) -> View:
        """Images (N, C, H, W), as this space shows them."""
        return self.view_of(self.features(images))

    def look_at(self, population: Population) -> View:
        """All of its images."""
        return self.view_of(
            in_chunks(lambda some: self.features(population.make(some)), population.count, population.size)
        )

    def view_of(self, features: np.ndarray) -> View:
        """(N, D)."""
        return View(features, self.groups.of(features))


class CopySpace:
    """A feature space, with the training images that may be copied in it, for rule 2."""

    def __init__(
        self, features: Features, train: np.ndarray, test: np.ndarray, seed: int, known: np.ndarray | None = None
    ) -> None:
        """Images are uint8 (N, C, H, W); of `train` those that are `known`, indices, or all.

        These are at least as many as `TrainingSet` needs.

        Raises:
            TooFew: there are fewer than 2 test images.
        """
        self.name, self.digest, self.features = features.name, features.digest, features
        train, known = np.asarray(train), np.arange(len(train)) if known is None else known
        rows = in_chunks(lambda some: features(train[known[some]]), len(known))
        self.dimensions = rows.shape[1]
        chosen = np.random.default_rng(seed).permutation(len(rows))
        self._index, self.cells = TrainingSet(rows), Cells(rows[chosen[:FITTED]], CELLS, seed)
        self.some_train = rows[chosen[:REFERENCE]]  # float32 (R, D)
        usual = np.sort(chosen[:USUAL])
        among_themselves = self._index.others(usual)
        self.near = near_copy_threshold(among_themselves, self._noisy_copies(train, known[usual], seed))
        self.exact = exact_copy_distance(among_themselves)
        self.test = self.view_of(_features_of(features, test, LARGEST, seed))
        self.some_test = self.test.features[:REFERENCE]  # float32 (R, D)

    def view(self, images: np.ndarray) -> CopyView:
        """Images (N, C, H, W), as this space shows them."""
        return self.view_of(self.features(images))

    def look_at(self, population: Population) -> CopyView:
        """All of its images."""
        return self.view_of(
            in_chunks(lambda some: self.features(population.make(some)), population.count, population.size)
        )

    def view_of(self, features: np.ndarray) -> CopyView:
        """(N, D)."""
        nearest = self._index.nearest(features)
        return CopyView(features, nearest, self._own_distances(nearest.indices[:, 0]), self.cells.of(features))

    def _own_distances(self, indices: np.ndarray) -> np.ndarray:
        """Of training images to their nearest others, (N)."""
        different, places = np.unique(indices, return_inverse=True)
        return self._index.others(different).distances[places, 0]

    def _noisy_copies(self, train: np.ndarray, chosen: np.ndarray, seed: int) -> Neighbours:
        rng = np.random.default_rng(seed)
        size = chunk_size(train.shape[1:])
        rows = in_chunks(lambda some: self.features(noisy(as_float(train[chosen[some]]), rng)), len(chosen), size)
        return self._index.nearest(rows)


def some_of(images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """As many, or all, in a random order: as they lie on disk they may be sorted by class."""
    return np.asarray(images)[_order(images, most, seed)]


def _order(images: np.ndarray, most: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(images))[:most]


def _features_of(features: Features, images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Of `some_of` the images, of which only a chunk is held at a time."""
    plain, chosen = np.asarray(images), _order(images, most, seed)
    return in_chunks(lambda some: features(plain[chosen[some]]), len(chosen))
