"""A judge of samples that belongs to none of the models: a classifier of the training images."""

import numpy as np

from latentmill.evaluation.neighbours import TrainingSet
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import random_subset
from latentmill.features.distances import frechet_distance
from latentmill.features.spaces import feature_space

SEED = 1  # of the classifier; that of the evaluation has another


class Judge:
    """The Fréchet distance and the coverage, in the features of a classifier of the training images, from test images.

    The classifier is of this run alone: no model has seen it, and it has seen no model.
    """

    def __init__(self, data: PreparedData, most: int) -> None:
        """Sets of equal size are compared: `most`, or as many images as there are in `val` and in `test`.

        Raises:
            InputError: the images have no labels.
        """
        self.count = min(most, len(data.val), len(data.test))
        self.features = feature_space("classifier", data.train, data.train_labels, SEED)
        self.real = self.features(random_subset(data.test, self.count, seed=0))  # (N, D)
        self.radii = TrainingSet(self.real).others(np.arange(self.count)).distances[:, -1]  # (N), to the fifth other

    def __call__(self, images: np.ndarray) -> dict[str, float]:
        """Of images uint8 (N, C, H, W)."""
        rows = self.features(images)
        coverage = float((TrainingSet(rows).nearest(self.real).distances[:, 0] < self.radii).mean())
        return {"frechet": round(frechet_distance(rows, self.real), 3), "coverage": round(coverage, 4)}
