"""Which training images are, but for rounding, others of them as well."""

import numpy as np
import torch
from torch.nn import functional as F

from latentmill.data.batches import chunk_size
from latentmill.evaluation.copies import are_exact_copies, exact_copy_distance
from latentmill.evaluation.encoder import apply
from latentmill.evaluation.neighbours import K, Neighbours, TrainingSet

SIDE = 8  # pixels that images are averaged down to: twins stay twins, and the search takes a second or two
USUAL = 2_000  # images that show how far apart images are


def have_twins(train: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Whether each of `taken` (n), indices, is all but the same as one of the other images: bool (n).

    `train` is uint8 (N, C, H, W). All but the same is nearer than `copies.SAME` of the usual distance, averaged down.
    """
    others = np.setdiff1d(np.arange(len(train)), taken)
    if not len(taken) or len(others) <= K:
        return np.zeros(len(taken), bool)
    rows = apply(_small, np.asarray(train), chunk_size(train.shape[1:]))
    known = TrainingSet(rows[others])
    usual = known.others(np.random.default_rng(0).permutation(len(others))[:USUAL])
    return are_exact_copies(known.nearest(rows[taken]), exact_copy_distance(_apart(usual)))


def _apart(usual: Neighbours) -> Neighbours:
    """The images among them that differ from their nearest; all if none does."""
    apart = usual.distances[:, 0] > 0
    return usual[apart] if apart.any() else usual


def _small(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C * h * w), h and w at most `SIDE`."""
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images, (min(SIDE, height), min(SIDE, width))).flatten(1)
