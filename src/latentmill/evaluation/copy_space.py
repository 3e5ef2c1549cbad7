"""The feature spaces of rule 2, in which metrics compare samples with the training images that they may copy."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import CHUNK, as_float, chunk_size
from latentmill.evaluation.alignment import AlignedSet
from latentmill.evaluation.controls import Population
from latentmill.evaluation.copies import exact_copy_distance, near_copy_threshold
from latentmill.evaluation.corruptions import moved, noisy
from latentmill.evaluation.groups import FITTED, Cells
from latentmill.evaluation.neighbours import Neighbours, TrainingSet
from latentmill.evaluation.spaces import LARGEST, REFERENCE, Chosen, random_subset
from latentmill.features.aligned import AlignedPixels
from latentmill.features.encoder import map_chunks
from latentmill.features.spaces import Features

CELLS = 10  # of C_T
BASELINE = 2_000  # training images whose distances to the others are a baseline


@dataclass(frozen=True)
class CopyView:
    """What rule 2 needs of images."""

    features: np.ndarray  # float32 (N, D)
    nearest: Neighbours  # training images
    own: np.ndarray  # float32 (N), the distance of the nearest one to its own nearest; NaN in an `AlignedSpace`
    cells: np.ndarray  # (N), by k-means

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: Chosen) -> "CopyView":
        return CopyView(self.features[chosen], self.nearest[chosen], self.own[chosen], self.cells[chosen])


class CopySpace:
    """A feature space with the training images that may be copied.

    At most `most` training images are searched, drawn at random, and it has the view of at most `tested` test images.

    Where models were trained with `flip`, copies may be mirrored. Then each image is looked at in the orientation in
    which it is nearer to a training image.

    Shapes: N images, D features, O orientations: 1, or 2 with `flip`.
    """

    most: int | None = None
    tested = LARGEST

    def __init__(
        self,
        features: Features,
        train: np.ndarray,
        test: np.ndarray,
        seed: int,
        known: np.ndarray | None = None,
        flip: bool = False,
    ) -> None:
        """Images are uint8 (N, C, H, W); of `train` those that are `known`, indices, or all.

        These are at least as many as `TrainingSet` needs.

        Raises:
            TooFew: there are fewer than 2 test images.
        """
        self.name, self.digest, self.features, self.flip = features.name, features.digest, features, flip
        train, known = np.asarray(train), np.arange(len(train)) if known is None else known
        self.searched = known = known if self.most is None else np.sort(random_subset(known, self.most, seed))
        self._train = self._features(lambda some: train[known[some]], len(known))  # (N, O, D)
        rows = self._train[:, 0]
        self.dimensions = rows.shape[1]
        chosen = np.random.default_rng(seed).permutation(len(rows))
        self._index, self.cells = self._training_set(rows), Cells(rows[chosen[:FITTED]], CELLS, seed)
        self.some_train = rows[chosen[:REFERENCE]]  # float32 (R, D)
        baseline = np.sort(chosen[:BASELINE])
        among_themselves = self._others(baseline)
        self.near = near_copy_threshold(among_themselves, self._copies(train, known[baseline], seed))
        self.exact = exact_copy_distance(among_themselves)
        some_test = random_subset(test, self.tested, seed)
        self.test = self._view(self._features(lambda some: some_test[some], len(some_test)))
        self.some_test = self.test.features[:REFERENCE]  # float32 (R, D)

    def view(self, images: np.ndarray) -> CopyView:
        """The view of images (N, C, H, W)."""
        return self._view(self._oriented(images))

    def view_population(self, population: Population) -> CopyView:
        """The view of all images of a population."""
        return self._view(self._features(population.make, population.count, population.size))

    def _view(self, rows: np.ndarray) -> CopyView:
        """Of images with these features (N, O, D)."""
        nearest = self._nearest(rows)
        found = rows[:, 0]
        if nearest.mirrored is not None:
            found = np.where(nearest.mirrored[:, None], rows[:, 1], found)
        return CopyView(found, nearest, self._own_distances(nearest.indices[:, 0]), self.cells.assign(found))

    def _features(self, make: Callable[[np.ndarray], np.ndarray], count: int, size: int = CHUNK) -> np.ndarray:
        """The features of `count` images, made by their indices: float32 (N, O, D)."""
        return map_chunks(lambda some: self._oriented(make(some)), count, size)

    def _oriented(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) -> (N, O, D)."""
        orientations = [images, mirrored(images)] if self.flip else [images]
        return np.stack([self.features(each) for each in orientations], axis=1)

    def _nearest(self, rows: np.ndarray) -> Neighbours:
        """(N, O, D)."""
        return self._index.nearest(rows[:, 0], rows[:, 1] if self.flip else None)

    def _others(self, chosen: np.ndarray) -> Neighbours:
        return self._index.others(chosen, self._train[chosen, 1] if self.flip else None)

    def _own_distances(self, indices: np.ndarray) -> np.ndarray:
        """The distances of training images to their nearest others, (N)."""
        different, places = np.unique(indices, return_inverse=True)
        return self._others(different).distances[places, 0]

    def _copies(self, train: np.ndarray, chosen: np.ndarray, seed: int) -> Neighbours:
        """Of training images, so changed that they must still be found."""
        rng = np.random.default_rng(seed)
        size = chunk_size(train.shape[1:])
        changed = self._features(lambda some: self._changed(as_float(train[chosen[some]]), rng), len(chosen), size)
        return self._nearest(changed)

    @staticmethod
    def _changed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return noisy(images, rng)

    def _training_set(self, rows: np.ndarray) -> TrainingSet:
        return TrainingSet(rows)


class AlignedSpace(CopySpace):
    """Images are compared after small changes, to find copies that were moved: for the metric near copies alone."""

    most = 100_000
    tested = REFERENCE

    def nearest(self, images: np.ndarray) -> Neighbours:
        """The nearest training images of images (N, C, H, W), after small changes; indices are into `train`."""
        found = self._nearest(self._oriented(images))
        return replace(found, indices=self.searched[found.indices])

    @staticmethod
    def _changed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return noisy(moved(images, rng), rng)

    def _training_set(self, rows: np.ndarray) -> TrainingSet:
        assert isinstance(self.features, AlignedPixels)
        return AlignedSet(rows, self.features.shape)

    def _own_distances(self, indices: np.ndarray) -> np.ndarray:
        return np.full(len(indices), np.nan, np.float32)


def kind_of_space(features: Features) -> type[CopySpace]:
    """The kind of space that has these features."""
    return AlignedSpace if isinstance(features, AlignedPixels) else CopySpace
