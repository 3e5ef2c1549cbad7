"""Finds training images that are nearly the same as others of them."""

import numpy as np
import torch
from torch.nn import functional as F

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import chunk_size
from latentmill.evaluation.copies import are_exact_copies, exact_copy_distance
from latentmill.evaluation.neighbours import K, Neighbours, TrainingSet
from latentmill.features.encoder import apply

SIDE = 8  # pixels that images are averaged down to: duplicates stay duplicates, and the search takes a second or two
BASELINE = 2_000  # images whose distances show how far apart images are


def have_near_duplicates(train: np.ndarray, taken: np.ndarray, flip: bool = False) -> np.ndarray:
    """Whether each of `taken` (n), indices, is nearly the same as one of the other images: bool (n).

    `train` is uint8 (N, C, H, W). Nearly the same is nearer than `copies.SAME` of the median distance to the nearest
    other image, all averaged down. With `flip`, the mirror images of the others count too.
    """
    others = np.setdiff1d(np.arange(len(train)), taken)
    if not len(taken) or len(others) <= K:
        return np.zeros(len(taken), bool)
    size = chunk_size(train.shape[1:])
    rows = apply(_small, np.asarray(train), size)
    turned = apply(_small, mirrored(np.asarray(train[taken])), size) if flip else None
    known = TrainingSet(rows[others])
    baseline = known.others(np.random.default_rng(0).permutation(len(others))[:BASELINE])
    return are_exact_copies(known.nearest(rows[taken], turned), exact_copy_distance(_different(baseline)))


def _different(neighbours: Neighbours) -> Neighbours:
    """Those of the images that differ from their nearest; all if none does."""
    apart = neighbours.distances[:, 0] > 0
    return neighbours[apart] if apart.any() else neighbours


def _small(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C * h * w), h and w at most `SIDE`."""
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images, (min(SIDE, height), min(SIDE, width))).flatten(1)
