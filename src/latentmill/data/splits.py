"""From a source's images to three splits that share no image.

An image that stood in two splits would let a model be rewarded for memory, so splits are made disjoint byte
for byte.
"""

import hashlib
from math import floor

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.arrays import Array, Bytes, Labels
from latentmill.data.dataset import SPLITS, Splits
from latentmill.data.sources import Images
from latentmill.errors import InputError

MIN_IMAGES = 2  # a split; below that it has no spread


def split(source: Images, config: DataConfig) -> Splits:
    """Shuffle and cut `source` by `config`'s fractions, then drop what an earlier split already has.

    A source with a test set of its own keeps that one, in its order; then only `config.val` applies.

    Raises:
        InputError: the fractions leave nothing to train on, or a split ends with fewer than 2 images.
    """
    rows = _shuffled_rows(len(source.images), source.test_images is not None, config)
    images = {name: source.images[chosen] for name, chosen in rows.items()}
    if source.test_images is not None:
        images["test"] = source.test_images
    labels = None if source.labels is None else {name: source.labels[rows[name]] for name in rows}
    if labels is None:
        return _disjoint(images, None, None)
    if source.test_labels is not None:
        labels["test"] = source.test_labels
    known = np.unique(np.concatenate(list(labels.values())))
    indices = {name: np.searchsorted(known, labels[name]) for name in labels}
    return _disjoint(images, indices, tuple(str(label) for label in known))


def _shuffled_rows(count: int, has_test: bool, config: DataConfig) -> dict[str, Array]:
    """The row numbers of train and val, and of test where the pool has to give that too."""
    if not has_test and config.val + config.test >= 1:
        found = f"{config.val} + {config.test}"
        raise InputError(f"data.val + data.test must be less than 1, to leave some to train on, but got {found}")
    order = np.random.default_rng(config.seed).permutation(count)
    val = floor(count * config.val + 0.5)
    test = 0 if has_test else floor(count * config.test + 0.5)
    rows = {"train": order[val + test :], "val": order[test : test + val]}
    return rows if has_test else rows | {"test": order[:test]}


def _disjoint(images: dict[str, Bytes], labels: dict[str, Labels] | None, classes: tuple[str, ...] | None) -> Splits:
    fresh = _fresh_rows(images)
    for name, kept in fresh.items():
        if kept.sum() < MIN_IMAGES:
            found = f"{kept.sum()} of {sum(map(len, images.values()))} images"
            dropped = f"{(~kept).sum()} dropped as copies from an earlier split"
            raise InputError(f"{name} must have at least {MIN_IMAGES} images, but has {found}, {dropped}")
    return Splits(
        images={name: images[name][kept] for name, kept in fresh.items()},
        labels=None if labels is None else {name: labels[name][kept] for name, kept in fresh.items()},
        classes=classes,
        dropped={name: int((~kept).sum()) for name, kept in fresh.items()},
    )


def _fresh_rows(images: dict[str, Bytes]) -> dict[str, Array]:
    """For each split, which of its images no earlier split has; copies within one split are all kept."""
    seen: set[bytes] = set()
    fresh = {}
    for name in SPLITS:
        prints = [hashlib.sha256(image.tobytes()).digest() for image in images[name]]
        fresh[name] = np.array([each not in seen for each in prints], dtype=bool)
        seen.update(prints)
    return fresh
