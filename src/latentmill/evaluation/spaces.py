"""The feature spaces of rule 1, in which metrics compare samples with test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latentmill.evaluation.controls import Population
from latentmill.evaluation.fidelity import bandwidth, radii, vendi_score
from latentmill.evaluation.groups import FEWEST_OF_A_CLUSTER, Classes, Clusters, Groups
from latentmill.evaluation.neighbours import Neighbours, joined_neighbours
from latentmill.features.encoder import map_chunks
from latentmill.features.spaces import Features

REFERENCE = 1_000  # test images, and training images, for metrics whose time grows with their square
LARGEST = 5_000  # test images

Chosen = np.ndarray | slice


@dataclass(frozen=True)
class View:
    """What rule 1 needs of images."""

    features: np.ndarray  # float32 (N, D)
    groups: np.ndarray  # (N)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: Chosen) -> "View":
        return View(self.features[chosen], self.groups[chosen])


def concatenated(parts: Sequence[Any]) -> Any:
    """Views of one kind, one after the other."""
    kind, values = type(parts[0]), [vars(part) for part in parts]
    return kind(**{name: _concatenated([each[name] for each in values]) for name in values[0]})


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], Neighbours):
        return joined_neighbours(parts)
    return np.concatenate(parts)


class FidelitySpace:
    """A feature space with test images, for rule 1."""

    def __init__(self, features: Features, test: np.ndarray, seed: int, size: int = 500) -> None:
        """`test` is (M, C, H, W), uint8 or float32 in [0, 1].

        Groups are clusters, whose absence from `size` images can be detected. Neither the features nor a model may have
        been fitted to the test images.

        Raises:
            TooFew: there are fewer than 2 of them.
        """
        self.name, self.digest, self.features = features.name, features.digest, features
        rows = _subset_features(features, test, LARGEST, seed)
        self.dimensions = rows.shape[1]
        self.some_test = rows[:REFERENCE]  # float32 (R, D)
        self.bandwidth = bandwidth(self.some_test)
        self.groups: Groups = Clusters.fit(rows, FEWEST_OF_A_CLUSTER / size, seed)
        self.test = self.view_features(rows)
        self.real_groups = self.test.groups  # (N)
        self._vendi_scores: dict[int, float] = {}  # by the number of test images

    def group_by(self, groups: Groups, more: np.ndarray) -> None:
        """Use these groups; the shares of real images in them are known from `more` of these too, features (N, D)."""
        self.groups = groups
        self.test = self.view_features(self.test.features)
        self.real_groups = np.concatenate([self.test.groups, groups.assign(more)])

    @property
    def mode(self) -> str:
        """What a group is called: a class, or a cluster of this space."""
        return "class" if isinstance(self.groups, Classes) else f"cluster of {self.name}"

    @cached_property
    def radii(self) -> np.ndarray:
        """The radii of `some_test`, (R)."""
        return radii(self.some_test)

    def test_vendi_score(self, count: int) -> float:
        """The Vendi score of the first `count` of `some_test`."""
        if count not in self._vendi_scores:
            self._vendi_scores[count] = vendi_score(self.some_test[:count], self.bandwidth)
        return self._vendi_scores[count]

    def view(self, images: np.ndarray) -> View:
        """The view of images (N, C, H, W)."""
        return self.view_features(self.features(images))

    def view_population(self, population: Population) -> View:
        """The view of all images of a population."""
        return self.view_features(
            map_chunks(lambda some: self.features(population.make(some)), population.count, population.size)
        )

    def view_features(self, features: np.ndarray) -> View:
        """The view of images with these features (N, D)."""
        return View(features, self.groups.assign(features))


def random_subset(images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` images, in a random order, because on disk they may be sorted by class."""
    return np.asarray(images)[random_indices(images, most, seed)]


def random_indices(images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The indices of `random_subset`."""
    return np.random.default_rng(seed).permutation(len(images))[:most]


def _subset_features(features: Features, images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The features of a `random_subset`, computed in chunks."""
    plain, chosen = np.asarray(images), random_indices(images, most, seed)
    return map_chunks(lambda some: features(plain[chosen[some]]), len(chosen))
