"""The data set that the stage prepare wrote, as a collection whose images are in their splits."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latentmill.data.collection import Bytes, Collection, Item, Pixels
from latentmill.data.dataset import SPLITS, read_classes, read_groups, read_labels, read_manifest, read_split


@dataclass
class SplitImages(Pixels):
    """Images of several arrays of one shape, mapped from disk, one after the other."""

    parts: list[Bytes] = field(kw_only=True)  # each N×C×H×W

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.parts[0].shape[1:]
        return channels, height, width

    def block(self, rows: np.ndarray) -> Bytes:
        ends = np.cumsum([len(part) for part in self.parts])
        places = np.searchsorted(ends, rows, side="right")
        firsts = np.concatenate([[0], ends])[places]
        chosen = zip(places.tolist(), (rows - firsts).tolist(), strict=True)
        return np.stack([self.parts[place][row] for place, row in chosen])


def prepared_images(folder: Path) -> Collection:
    """The images in `folder`, with their labels and the groups of training images, if any.

    Raises:
        InputError: `folder` does not hold a whole prepared data set.
    """
    classes, items = read_classes(folder), list[Item]()
    parts = [read_split(folder, split) for split in SPLITS]
    for split, part in zip(SPLITS, parts, strict=True):
        labels = read_labels(folder, split)
        names = [None] * len(part) if labels is None or classes is None else [classes[label] for label in labels]
        numbers = read_groups(folder) if split == "train" else None
        groups = [None] * len(part) if numbers is None else [str(number) for number in numbers]
        items += [Item(f"{split}[{row}]", *each, split) for row, each in enumerate(zip(names, groups, strict=True))]
    return SplitImages(f"{read_manifest(folder)['description']}, prepared in {folder}", items, parts=parts)
