"""Which images play which part while measures are calibrated: new, or copied."""

from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.measures import ROWS
from latentmill.evaluation.twins import have_twins
from latentmill.evaluation.verdict import Draws

POOL = 6_000  # new images that draws are taken from, at most
MANY = 5_000  # images of a draw, at most


@dataclass(frozen=True, eq=False)
class Pool:
    """The new images, which a control is made from, and the training images that a copier copies.

    Controls need many images that no training set has: the validation images, and where these are few, of the training
    images up to a third; the rest are those that a copier copies. Among these stay images with a twin there too: what
    is new has none, or it passes for copied, and copies for new.
    """

    of_train: np.ndarray  # indices of new images, sorted
    of_val: np.ndarray  # the same, into val
    copied: np.ndarray  # indices into train, sorted
    twins: int  # training images that are not new, because others are the same

    @classmethod
    def chosen(
        cls,
        train: np.ndarray,
        val: np.ndarray,
        labels: np.ndarray | None,
        seed: int,
        groups: np.ndarray | None = None,
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
        if labels is not None:  # as many of each class, for the shares of classes are measured too
            order = order[np.argsort(labels[firsts[order]], kind="stable")]
        stride = max(3, -(-len(train) // max(1, POOL - len(val))))
        some = order[::stride] if len(val) < POOL else order[:0]
        some = some[np.cumsum(sizes[some]) <= -(-len(train) // stride)]
        taken = np.flatnonzero(np.isin(units, some))
        with_twins = have_twins(train, taken)
        of_train = taken[~np.isin(units[taken], units[taken[with_twins]])]
        of_val = np.sort(np.random.default_rng(seed).permutation(len(val))[:POOL])
        copied = np.setdiff1d(np.arange(len(train)), of_train)
        return cls(of_train, of_val, copied, len(taken) - len(of_train))

    def __len__(self) -> int:
        return len(self.of_train) + len(self.of_val)

    @property
    def random(self) -> float:
        """The share that is not drawn by class."""
        return len(self.of_val) / max(1, len(self))

    def images(self, train: np.ndarray, val: np.ndarray) -> np.ndarray:
        """The new ones, uint8 (N, C, H, W): a copy."""
        return np.concatenate([np.asarray(train)[self.of_train], np.asarray(val)[self.of_val]])

    def labels(self, labels: np.ndarray, train: int) -> np.ndarray:
        """Of the new images (N), from those of so many of `train` and then of val."""
        return labels[np.concatenate([self.of_train, train + self.of_val])]

    def draws(self, samples: int) -> Draws:
        """Of the new images, for models that are judged by so many `samples`."""
        many = min(samples, MANY)
        return Draws(min(ROWS, many, len(self) // 2), many, len(self), POOL, self.twins)
