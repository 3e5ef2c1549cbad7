"""The pictures of the page: samples beside real images, and the samples that are closest to a training image."""

from dataclasses import dataclass

import numpy as np

from latentmill.data.batches import as_float
from latentmill.data.tiles import tiles
from latentmill.evaluation.copy_search import CopySearch
from latentmill.evaluation.spaces import random_subset
from latentmill.judging.real_images import RealImages
from latentmill.runtime.images import grid, png

SHOWN, COLUMNS = 48, 8  # samples, and as many real images if there are
PAIRS = 16  # of a sample and its nearest training image
LARGEST = 96  # pixels of a side: larger images are reduced, for the page to be small


@dataclass(frozen=True, eq=False)
class Pictures:
    """PNGs."""

    samples: bytes
    real: bytes
    real_count: int
    pairs: list[bytes]  # a sample on the left, its nearest training image on the right; the closest first


def pictures(samples: np.ndarray, real: RealImages, copies: CopySearch) -> Pictures:
    """Of samples uint8 (N, C, H, W) in a random order."""
    closest = copies.closest[:PAIRS]
    nearest = copies.neighbours[closest].images(real.train)[:, 0]
    pairs = [sheet(np.stack(pair), 2) for pair in zip(samples[closest], nearest, strict=True)]
    new = random_subset(real.data.test, SHOWN, seed=0)
    return Pictures(sheet(samples[:SHOWN], COLUMNS), sheet(new, COLUMNS), len(new), pairs)


def sheet(images: np.ndarray, columns: int) -> bytes:
    """uint8 (N, C, H, W) in rows, as a PNG."""
    return png(grid(as_float(tiles(images, LARGEST)), columns))
