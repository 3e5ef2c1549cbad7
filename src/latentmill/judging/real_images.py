"""Which images a generator has seen, and which are new to it and show what may be expected of one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentmill.data.collection import Item, OnProgress
from latentmill.data.dataset import SPLITS, write_images
from latentmill.data.numpy_files import read_npy
from latentmill.data.preparation.classes import class_names
from latentmill.data.preparation.duplicates import without_copies
from latentmill.data.preparation.limit import MIN_IMAGES
from latentmill.data.preparation.splits import Rows, dealt, grouped_rows, numbered_groups
from latentmill.errors import InputError
from latentmill.evaluation.neighbours import K
from latentmill.evaluation.prepared import PreparedData
from latentmill.judging.intake import HELD_OUT, TRAIN, ImageSet, joined

NEW = ("val", "test")  # splits that the generator has not seen
SET_ASIDE, MOST_SET_ASIDE = 0.2, 10_000  # share of the training images that stand for held-out ones; images, at most


@dataclass(frozen=True, eq=False)
class RealImages:
    """The real images."""

    data: PreparedData  # val and test are halves of the held-out images
    train: np.ndarray  # uint8 (N, C, H, W), all that the generator was trained on
    names: list[str]  # N
    set_aside: bool  # whether the held-out images are among these
    left_out: int  # held-out images that are copies of training images, or of one another
    notes: list[str]

    @property
    def held_out(self) -> int:
        """The number of held-out images."""
        return len(self.data.val) + len(self.data.test)


def real_images(
    train: ImageSet, held_out: ImageSet | None, flip: bool, seed: int, folder: Path, progress: OnProgress
) -> RealImages:
    """The images to judge by; without held-out ones those that the source of `train` holds out, or some of `train`.

    Raises:
        InputError: there are too few, or the held-out images are training images.
    """
    sets = [train] if held_out is None else [train, held_out]
    images, items = joined(sets, folder / "known.npy"), [item for each in sets for item in each.items]
    found = _split(items, len(train.items), held_out is not None, seed)
    rows, _ = without_copies(images, found.rows, True, progress)
    new = sum(len(found.rows[name]) for name in NEW)
    left_out = new - sum(len(rows[name]) for name in NEW)
    _require_enough(rows, left_out, new if found.set_aside else 0, any(item.group is not None for item in items))
    classes, notes = class_names({name: [items[row] for row in rows[name]] for name in SPLITS})
    labels = [None if classes is None else _labels(items, rows[name], classes) for name in SPLITS]
    written = [_written(folder / f"{name}.npy", images, rows[name], progress) for name in SPLITS]
    groups = numbered_groups([items[row] for row in rows["train"]])
    data = PreparedData(*written, *labels, classes=classes, train_groups=groups, flip=flip)
    every = images[: len(train.items)] if found.set_aside else data.train
    notes = [note.removesuffix(", more than data.max_dropped lets drop") for note in notes]
    return RealImages(data, every, [items[row].name for row in found.seen], found.set_aside, left_out, notes)


@dataclass(frozen=True, eq=False)
class _Splits:
    """Rows of all images; those of one group are in one split."""

    rows: Rows  # by split
    seen: np.ndarray  # by the generator, in training
    set_aside: bool


def _split(items: list[Item], count: int, has_held_out: bool, seed: int) -> _Splits:
    """The first `count` of `items` are those of the source of training images."""
    every = np.arange(len(items))
    named = np.array([item.split in NEW for item in items[:count]])
    seen = every[:count][~named]
    new = every[count:] if has_held_out else every[:count][named]
    set_aside = not len(new)
    wanted = min(MOST_SET_ASIDE, round(SET_ASIDE * len(seen))) if set_aside else len(new)
    counts = {"val": wanted - wanted // 2, "test": wanted // 2}
    found = dealt(grouped_rows(items, seen if set_aside else new), counts, seed)
    halves = {name: np.sort(found[name]) for name in NEW}
    return _Splits({"train": np.setdiff1d(seen, np.concatenate([*halves.values()]))} | halves, seen, set_aside)


def _require_enough(rows: Rows, left_out: int, set_aside: int, has_groups: bool) -> None:
    why = f": a fifth ({set_aside}) of all is set aside in the place of held-out images" if set_aside else ""
    why += "; the images of a group stay together, so there must be several groups" if has_groups else ""
    if len(rows["train"]) <= K:
        raise InputError(f"{TRAIN} must be at least {K + 1}, but there are {len(rows['train'])}{why}")
    fewest = min(len(rows[name]) for name in NEW)
    if fewest < MIN_IMAGES:
        found = sum(len(rows[name]) for name in NEW)
        copies = f" and {left_out} that are copies of training images" if left_out else ""
        raise InputError(f"{HELD_OUT} must be at least {2 * MIN_IMAGES}, but there are {found}{copies}{why}")


def _labels(items: list[Item], rows: np.ndarray, classes: list[str]) -> np.ndarray:
    index = {name: place for place, name in enumerate(classes)}
    return np.array([index[str(items[row].label)] for row in rows], np.int64)


def _written(path: Path, images: np.ndarray, rows: np.ndarray, progress: OnProgress) -> np.ndarray:
    """These images in a file of their own, and mapped from it."""
    write_images(path, images, rows, images.shape[1], progress)
    return np.asarray(read_npy(path))  # indexing a memmap itself is slow
