"""The images that a sweep trains on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentmill.data.dataset import read_classes, read_labels, read_split


@dataclass(frozen=True)
class Images:
    """The images of a sweep, uint8 (N, C, H, W), and their labels, int64 (N), if any."""

    train: np.ndarray
    val: np.ndarray
    labels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    classes: int = 0


def prepared_images(data: Path) -> Images:
    """Those of a prepared data set."""
    labels = read_labels(data, "train"), read_labels(data, "val")
    return Images(read_split(data, "train"), read_split(data, "val"), labels, len(read_classes(data) or []))
