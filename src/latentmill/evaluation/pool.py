"""The choice of images for the calibration of metrics: new ones, and those that a copier copies."""

from dataclasses import dataclass

import numpy as np

from latentmill.data.augmentation import mirrored
from latentmill.evaluation.metrics import ROWS
from latentmill.evaluation.near_duplicates import have_near_duplicates
from latentmill.evaluation.neighbours import K
from latentmill.evaluation.verdict import Draws

POOL = 6_000  # new images that draws are taken from, at most
MANY = 5_000  # images of a draw, at most


@dataclass(frozen=True, eq=False)
class Pool:
    """The new images, from which controls are made, and the training images that a copier copies.

    Controls need many images that no training set has: the validation images, and where these are few, up to a third of
    the training images. The others are those that a copier copies, and so are all that have a near-duplicate among
    them: as a new image it would look like a copy.
    """

    new_train: np.ndarray  # indices of new images, sorted
    new_val: np.ndarray  # the same, into val
    copied: np.ndarray  # indices into train, sorted
    near_duplicates: int  # training images that are not new, because others are nearly the same
    flip: bool = False  # whether copies may be mirrored
    by_class: bool = True  # whether the new training images have the shares of the classes, if there are labels

    @classmethod
    def chosen(
        cls,
        train: np.ndarray,
        val: np.ndarray,
        labels: np.ndarray | None,
        seed: int,
        groups: np.ndarray | None = None,
        flip: bool = False,
    ) -> "Pool":
        """Images are uint8 (N, C, H, W), maybe mapped from disk.

        `labels` begin with those of train, if any; `groups` (N) are of train alone.
        """
        _, firsts, units, sizes = np.unique(
            np.arange(len(train)) if groups is None else groups,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        order = np.random.default_rng(seed).permutation(len(firsts))
        if labels is not None:  # with the shares of the classes, because these are measured too
            order = order[np.argsort(labels[firsts[order]], kind="stable")]
        stride = max(3, -(-len(train) // max(1, POOL - len(val))))
        some = order[::stride] if len(val) < POOL else order[:0]
        fitting = _fitting(np.random.default_rng([seed, 1]).permutation(some), sizes, -(-len(train) // stride))
        taken = np.flatnonzero(np.isin(units, fitting))
        if len(train) - len(taken) <= K:  # too few would be left to be copied
            taken = taken[:0]
        duplicated = have_near_duplicates(train, taken, flip)
        new_train = taken[~np.isin(units[taken], units[taken[duplicated]])]
        new_val = np.sort(np.random.default_rng(seed).permutation(len(val))[:POOL])
        copied = np.setdiff1d(np.arange(len(train)), new_train)
        return cls(new_train, new_val, copied, len(taken) - len(new_train), flip, by_class=groups is None)

    def __len__(self) -> int:
        return len(self.new_train) + len(self.new_val)

    @property
    def random(self) -> float:
        """The share that is drawn at random, and not by class."""
        return len(self.new_val) / max(1, len(self)) if self.by_class else 1.0

    def images(self, train: np.ndarray, val: np.ndarray) -> np.ndarray:
        """The new images, uint8 (N, C, H, W): a copy."""
        return np.concatenate([np.asarray(train)[self.new_train], np.asarray(val)[self.new_val]])

    def copies(self, images: np.ndarray) -> np.ndarray:
        """What a copier makes of training images (n, C, H, W): with `flip`, half of them are mirrored."""
        made = np.array(images)
        if self.flip:
            made[::2] = mirrored(made[::2])
        return made

    def labels(self, labels: np.ndarray, train: int) -> np.ndarray:
        """The labels of the new images (N), from those of `train` training images and then of val."""
        return labels[np.concatenate([self.new_train, train + self.new_val])]

    def draws(self, samples: int) -> Draws:
        """The sizes of draws from the new images, for models that are judged by so many `samples`.

        The larger draws are as many as fit a whole number of times, so that almost every sample is read.
        """
        many = samples // max(1, -(-samples // MANY))
        return Draws(min(ROWS, many, len(self) // 2), many, len(self), POOL, self.near_duplicates)


def _fitting(units: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """Those of `units`, indices in order of preference, that have at most `most` images together."""
    found, left = [], most
    for unit in units:
        if sizes[unit] <= left:
            found.append(unit)
            left -= sizes[unit]
    return np.array(found, units.dtype)
