"""How many of all samples are copies of training images, and which share of copies the search would not have missed.

A sample counts as found where it is a training image, except for rounding, or much nearer to one than to others: in
pixels, or after small changes. That is measured on copies of every kind, made from the training images themselves, and
on held-out images, which are none.
"""

from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.copies import are_exact_copies, relative_distances
from latentmill.evaluation.copy_kinds import KINDS, UNCHANGED
from latentmill.evaluation.copy_space import AlignedSpace
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, chosen_neighbours
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import random_indices
from latentmill.features.aligned import AlignedPixels, can_align
from latentmill.proportion import CONFIDENCE, Found
from latentmill.runtime.cores import cores
from latentmill.threads import steps_at_a_time

COPIED = 500  # training images, of which copies of each kind are looked for


@dataclass(frozen=True, eq=False)
class CopySearch:
    """Of all samples."""

    exact: Found  # samples that are training images
    near: Found  # those, and samples that are nearly one
    aligned: Found  # of these, the ones that are so only after small changes, such as a shift
    held_out: Found  # near ones among held-out images, which are no copies
    kinds: dict[str, Found]  # of copies of training images, by what was done to them
    closest: np.ndarray  # int64 (N), all samples, first those that most likely are copies
    neighbours: Neighbours  # of the samples, among the training images; after small changes if found so

    def highest_share(self, kind: str) -> float:
        """`highest_share` of such copies among the samples."""
        return highest_share(self.exact if kind == UNCHANGED else self.near, self.kinds[kind])


def highest_share(found: Found, of_copies: Found) -> float:
    """The largest share of copies of a kind that agrees with what was found among samples; 1 where it is unknown.

    From the upper bound of what was found, all of which may be such copies, over the lower bound of the rate at which
    they are found, which is known `of_copies` made on purpose. Both hold together with `CONFIDENCE`.
    """
    each = (1 + CONFIDENCE) / 2
    rate = of_copies.lowest(each)
    return min(1.0, found.highest(each) / rate) if rate > 0 else 1.0


@dataclass(frozen=True)
class Seen:
    """The nearest training images of images."""

    plain: Neighbours  # in pixels
    aligned: Neighbours | None  # after small changes; None: the images are too small for that


class CopyFinder:
    """Tells which images are copies of training images: exact ones, or much nearer to one than to the rest.

    Images are uint8 (N, C, H, W), or float32 in [0, 1].
    """

    def __init__(self, train: np.ndarray, data: PreparedData, seed: int, aligned: AlignedSpace | None = None) -> None:
        """`train` are the training images of `data`, or these and others, which its held-out images may be among.

        `aligned` is the space of `data`, where it is known.
        """
        self._train, self._data, self._seed = train, data, seed
        self._baseline = compute_baseline(data, seed)
        self._index = TrainingSet(train, self._baseline.reduced if train is data.train else None)
        known = aligned if aligned or not can_align(data.train.shape[1:]) else self._space(data.train)
        self._aligned = known if train is data.train or known is None else self._space(train)
        tested = data.test[self._baseline.tested]
        self.held_out = _counted(self.are_found(Seen(self._baseline.test, known.nearest(tested) if known else None)))

    def _space(self, train: np.ndarray) -> AlignedSpace:
        return AlignedSpace(AlignedPixels(train.shape[1:]), train, self._data.test, self._seed, flip=self._data.flip)

    def look(self, images: np.ndarray, total: int | None = None) -> Seen:
        """The nearest training images of each image, by a search as exact as one of `total` images."""
        plain = self._index.nearest(images, self._data.mirrored(images), total)
        return Seen(plain, self._aligned.nearest(images) if self._aligned else None)

    def are_exact(self, seen: Seen) -> np.ndarray:
        """Which images are training images, except for rounding: bool (N)."""
        return are_exact_copies(seen.plain, self._baseline.exact)

    def are_found(self, seen: Seen) -> np.ndarray:
        """Which images are these, or nearly one: bool (N)."""
        return self.are_exact(seen) | (np.minimum(*self.closeness(seen)) < 1)

    def closeness(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """In pixels, and after small changes: (N) each, below 1 for a near copy."""
        plain = relative_distances(seen.plain) / self._baseline.near
        if seen.aligned is None or self._aligned is None:
            return plain, np.full_like(plain, np.inf)
        return plain, relative_distances(seen.aligned) / self._aligned.near

    def kinds(self, total: int | None = None) -> dict[str, Found]:
        """Of copies of training images, `COPIED` of each kind, by a search as exact as one of `total` images."""
        rng = np.random.default_rng(self._seed)
        copied = np.asarray(self._train[np.sort(random_indices(self._train, COPIED, self._seed))])
        return {kind: _counted(self.are_found(self.look(make(copied, rng), total))) for kind, make in KINDS.items()}


def search_copies(samples: np.ndarray, finder: CopyFinder) -> CopySearch:
    """Look for copies among all `samples`, uint8 (N, C, H, W), maybe mapped from disk."""
    total = max(COPIED, len(samples))  # by which both searches are of one kind
    with steps_at_a_time(cores()) as steps:
        kinds, seen = steps.submit(finder.kinds, total), steps.submit(finder.look, samples, total).result()
    exact, found = finder.are_exact(seen), finder.are_found(seen)
    plain, after_changes = finder.closeness(seen)
    only_after = found & ~exact & (plain >= 1)
    nearest = seen.plain if seen.aligned is None else chosen_neighbours(only_after, seen.aligned, seen.plain)
    order = np.lexsort((nearest.distances[:, 0], np.minimum(plain, after_changes), ~exact))
    exactly, near, changed = (_counted(each) for each in (exact, found, only_after))
    return CopySearch(exactly, near, changed, finder.held_out, kinds.result(), order, nearest)


def _counted(found: np.ndarray) -> Found:
    return Found(int(found.sum()), len(found))
