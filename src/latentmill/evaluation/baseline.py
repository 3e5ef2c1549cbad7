"""The baseline of distances to the training images: those of images that no model has made."""

from dataclasses import dataclass

import numpy as np

from latentmill.data.batches import as_float, chunk_size
from latentmill.evaluation.candidates import Reduced
from latentmill.evaluation.copies import exact_copy_distance, near_copy_threshold
from latentmill.evaluation.corruptions import noisy
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, joined_neighbours
from latentmill.evaluation.prepared import PreparedData
from latentmill.features.spaces import Features, PixelFeatures

TRAINING_IMAGES = 2_000  # for the threshold of near copies
TEST_IMAGES = 5_000


@dataclass(frozen=True)
class Baseline:
    """The pixel distances of test images to the training images, and what all entries share in their comparison."""

    tested: np.ndarray  # int64 (N), which of the test images these are
    test: Neighbours  # of these
    near: float  # the relative distance below which an image is a near copy
    exact: float  # the distance up to which an image is a training image, except for rounding
    reduced: Reduced | None  # of the training images, where these are large
    pixels: Features  # fitted to the training images


def compute_baseline(data: PreparedData, seed: int) -> Baseline:
    """From some of the test images, and from some training images and their distances to the others."""
    index, rng = TrainingSet(data.train), np.random.default_rng(seed)
    chosen = rng.permutation(len(data.train))[:TRAINING_IMAGES]
    among_themselves = index.others(chosen, data.mirrored(np.asarray(data.train[chosen])))
    near = near_copy_threshold(among_themselves, _noisy_copies(index, data, chosen, seed))
    tested = np.sort(rng.permutation(len(data.test))[:TEST_IMAGES])
    test = data.test[tested]
    exact = exact_copy_distance(among_themselves)
    nearest = index.nearest(test, data.mirrored(test))
    return Baseline(tested, nearest, near, exact, index.reduced, PixelFeatures.fit(data.train))


def _noisy_copies(index: TrainingSet, data: PreparedData, chosen: np.ndarray, seed: int) -> Neighbours:
    """The neighbours of the training images `chosen` (n) with noise, computed in chunks."""
    rng, size = np.random.default_rng(seed), chunk_size(data.train.shape[1:])
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    copies = (noisy(as_float(data.train[part]), rng) for part in parts)
    return joined_neighbours([index.nearest(images, data.mirrored(images)) for images in copies])
