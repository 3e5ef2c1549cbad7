"""How many of all samples are copies of training images, and which share of copies the search would not have missed.

A sample counts as found where it is a training image, except for rounding, or much nearer to one than to others. That
is measured on copies of every kind, made from the training images themselves, and on held-out images, which are none.
"""

from collections.abc import Callable
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
        """The largest share of such copies among the samples that agrees with what was found; 1 where it is unknown.

        From the upper bound of what was found, all of which may be such copies, over the lower bound of the rate at
        which they are found.
        """
        found = self.exact if kind == UNCHANGED else self.near
        rate = self.kinds[kind].lowest
        return min(1.0, found.highest / rate) if rate > 0 else 1.0


def search_copies(samples: np.ndarray, train: np.ndarray, data: PreparedData, seed: int) -> CopySearch:
    """Look for copies of `train` among all `samples`, both uint8 (N, C, H, W), maybe mapped from disk.

    `train` are the training images of `data`, or these and others, which its held-out images may be among.
    """
    baseline = compute_baseline(data, seed)
    index = TrainingSet(train, baseline.reduced if train is data.train else None)

    def look(images: np.ndarray) -> Neighbours:
        return index.nearest(images, data.mirrored(images))

    def found(neighbours: Neighbours) -> np.ndarray:
        return are_exact_copies(neighbours, baseline.exact) | are_near_copies(neighbours, baseline.near)

    nearest = look(samples)
    exact = are_exact_copies(nearest, baseline.exact)
    order = np.lexsort((nearest.distances[:, 0], relative_distances(nearest), ~exact))
    copied = np.asarray(train[np.sort(random_indices(train, COPIED, seed))])
    return CopySearch(
        _counted(exact),
        _counted(found(nearest)),
        _counted(found(baseline.test)),
        _found_of_each_kind(copied, lambda images: found(look(images)), seed),
        order,
        nearest,
    )


def _found_of_each_kind(copied: np.ndarray, found: Callable[[np.ndarray], np.ndarray], seed: int) -> dict[str, Found]:
    """Of copies of the images `copied` (n, C, H, W) of each kind."""
    rng = np.random.default_rng(seed)
    return {kind: _counted(found(make(copied, rng))) for kind, make in KINDS.items()}


def _counted(found: np.ndarray) -> Found:
    return Found(int(found.sum()), len(found))
