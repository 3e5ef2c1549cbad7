"""How many of all samples are copies of training images, and which share of copies the search would not have missed.

A sample counts as found where it is a training image, except for rounding, or much nearer to one than to others. That
is measured on copies of every kind, made from the training images themselves, and on held-out images, which are none.
"""

from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.copies import are_exact_copies, are_near_copies, relative_distances
from latentmill.evaluation.copy_kinds import KINDS, UNCHANGED
from latentmill.evaluation.neighbours import Neighbours, TrainingSet
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import random_indices
from latentmill.proportion import Found

COPIED = 500  # training images, of which copies of each kind are looked for


@dataclass(frozen=True, eq=False)
class CopySearch:
    """Of all samples, in pixels."""

    exact: Found  # samples that are training images
    near: Found  # those, and samples that are nearly one
    held_out: Found  # the same, of held-out images
    kinds: dict[str, Found]  # of copies of training images, by what was done to them
    closest: np.ndarray  # int64 (N), all samples, first those that most likely are copies
    neighbours: Neighbours  # of the samples, among the training images

    def highest_share(self, kind: str) -> float:
        """`highest_share` of such copies among the samples."""
        return highest_share(self.exact if kind == UNCHANGED else self.near, self.kinds[kind])


def highest_share(found: Found, of_copies: Found) -> float:
    """The largest share of copies of a kind that agrees with what was found among samples; 1 where it is unknown.

    From the upper bound of what was found, all of which may be such copies, over the lower bound of the rate at which
    they are found, which is known `of_copies` made on purpose.
    """
    rate = of_copies.lowest
    return min(1.0, found.highest / rate) if rate > 0 else 1.0


class CopyFinder:
    """Tells which images are copies of training images: exact ones, or much nearer to one than to the rest.

    Images are uint8 (N, C, H, W), or float32 in [0, 1].
    """

    def __init__(self, train: np.ndarray, data: PreparedData, seed: int) -> None:
        """`train` are the training images of `data`, or these and others, which its held-out images may be among."""
        self._train, self._data, self._seed = train, data, seed
        self._baseline = compute_baseline(data, seed)
        self._index = TrainingSet(train, self._baseline.reduced if train is data.train else None)

    def neighbours(self, images: np.ndarray) -> Neighbours:
        """The nearest training images of each image."""
        return self._index.nearest(images, self._data.mirrored(images))

    def are_exact(self, neighbours: Neighbours) -> np.ndarray:
        """Which images are training images, except for rounding: bool (N)."""
        return are_exact_copies(neighbours, self._baseline.exact)

    def are_found(self, neighbours: Neighbours) -> np.ndarray:
        """Which images are these, or nearly one: bool (N)."""
        return self.are_exact(neighbours) | are_near_copies(neighbours, self._baseline.near)

    @property
    def held_out(self) -> Found:
        """Of held-out images, which are no copies."""
        return _counted(self.are_found(self._baseline.test))

    def kinds(self) -> dict[str, Found]:
        """Of copies of training images, `COPIED` of each kind."""
        rng = np.random.default_rng(self._seed)
        copied = np.asarray(self._train[np.sort(random_indices(self._train, COPIED, self._seed))])
        return {kind: _counted(self.are_found(self.neighbours(make(copied, rng)))) for kind, make in KINDS.items()}


def search_copies(samples: np.ndarray, train: np.ndarray, data: PreparedData, seed: int) -> CopySearch:
    """Look for copies of `train` among all `samples`, both uint8 (N, C, H, W), maybe mapped from disk.

    `train` are the training images of `data`, or these and others, which its held-out images may be among.
    """
    finder = CopyFinder(train, data, seed)
    nearest = finder.neighbours(samples)
    exact = finder.are_exact(nearest)
    order = np.lexsort((nearest.distances[:, 0], relative_distances(nearest), ~exact))
    found = _counted(finder.are_found(nearest))
    return CopySearch(_counted(exact), found, finder.held_out, finder.kinds(), order, nearest)


def _counted(found: np.ndarray) -> Found:
    return Found(int(found.sum()), len(found))
