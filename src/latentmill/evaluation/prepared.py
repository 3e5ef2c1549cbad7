"""The prepared data set, as the evaluation needs it."""

from dataclasses import dataclass, field

import numpy as np

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import Batches
from latentmill.data.factors import Factors
from latentmill.errors import InputError
from latentmill.evaluation.neighbours import K


@dataclass(frozen=True)
class PreparedData:
    """The prepared images, uint8 (N, C, H, W), and their labels (N), indices into `classes`, if any.

    Training images of the same one of `train_groups` (N), if there are groups, belong together. With `flip`, models saw
    these images mirrored too, and may have copied the mirror images.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None
    val_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: list[str] | None = field(default=None, kw_only=True)
    train_groups: np.ndarray | None = field(default=None, kw_only=True)
    test_factors: Factors | None = field(default=None, kw_only=True)
    flip: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Raises: InputError: there are fewer images than any evaluation needs."""
        for split, fewest in (("train", K + 1), ("test", 2)):
            count = len(getattr(self, split))
            if count < fewest:
                raise InputError(f"an evaluation needs at least {fewest} images in {split}, but there are {count}")

    @property
    def known_labels(self) -> np.ndarray | None:
        """The labels of train, then of val."""
        if self.train_labels is None or self.val_labels is None:
            return None
        return np.concatenate([self.train_labels, self.val_labels])

    def mirrored(self, images: np.ndarray) -> np.ndarray | None:
        """The mirror images of images (N, C, H, W), a view, whose neighbours count too; None without `flip`."""
        return mirrored(images) if self.flip else None

    def train_batches(self, chosen: np.ndarray) -> Batches:
        """The training images `chosen`, indices, with their labels."""
        return _batches(self.train, self.train_labels, chosen)

    def val_batches(self, chosen: np.ndarray) -> Batches:
        """The validation images `chosen`, indices, with their labels."""
        return _batches(self.val, self.val_labels, chosen)

    def test_batches(self, chosen: np.ndarray | None = None) -> Batches:
        """The test images, all or those `chosen`, with their labels."""
        return _batches(self.test, self.test_labels, chosen)


def _batches(images: np.ndarray, labels: np.ndarray | None, chosen: np.ndarray | None) -> Batches:
    if chosen is None:
        return Batches(images, labels=labels)
    return Batches(np.asarray(images)[chosen], labels=None if labels is None else labels[chosen])
