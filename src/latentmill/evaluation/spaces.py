"""What every measure compares with: the training and test images, as one feature space shows them."""

from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.copies import Cells, near_copy_threshold
from latentmill.evaluation.features import ClassifierFeatures, Features
from latentmill.evaluation.fidelity import bandwidth
from latentmill.evaluation.neighbours import Neighbours, TrainingSet

CELLS = 10  # of C_T, and clusters that stand in for classes
REFERENCE = 1_000  # test images, and training images, for measures whose time grows with their square


@dataclass(frozen=True)
class View:
    """Images as one feature space shows them."""

    features: np.ndarray  # float32 (N, D)
    nearest: Neighbours  # training images
    cells: np.ndarray  # (N), by k-means
    groups: np.ndarray  # (N), classes where the space knows any, else the cells

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: slice) -> "View":
        return View(self.features[chosen], self.nearest[chosen], self.cells[chosen], self.groups[chosen])


class Space:
    """A feature space, with the training and the test images in it."""

    def __init__(self, features: Features, train: np.ndarray, test: np.ndarray, seed: int) -> None:
        """Images are float32 (N, C, H, W) in [0, 1]; at least as many of `train` as `TrainingSet` needs.

        Raises:
            TooFew: there are fewer than 2 test images.
        """
        self.name, self.digest = features.name, features.digest
        self.features = features
        rows = features(train)
        self.dimensions = rows.shape[1]
        self._index, self._cells = TrainingSet(rows), Cells(rows, CELLS, seed)
        self.among_themselves = self._index.among_themselves
        self.near = near_copy_threshold(self.among_themselves)
        self.some_train = rows[np.random.default_rng(seed).permutation(len(rows))[:REFERENCE]]  # float32 (R, D)
        self.test = self.view(test)
        self.groups = np.concatenate([self._groups(rows), self.test.groups])  # of real images (N)
        self.some_test = self.test.features[:REFERENCE]  # float32 (R, D)
        self.bandwidth = bandwidth(self.some_test)

    def view(self, images: np.ndarray) -> View:
        """Images float32 (N, C, H, W) in [0, 1], as this space shows them."""
        features = self.features(images)
        return View(features, self._index.nearest(features), self._cells.of(features), self._groups(features))

    def _groups(self, features: np.ndarray) -> np.ndarray:
        of = self.features
        return of.classes(features) if isinstance(of, ClassifierFeatures) else self._cells.of(features)
