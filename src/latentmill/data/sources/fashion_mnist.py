"""Fashion-MNIST's four files, as published: gzipped IDX, a format of magic number, sizes, then bytes.

They are read here rather than by a library because every library's reader also downloads.
"""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentmill.config import DataConfig
from latentmill.data.collection import Bytes, Collection, Item, Loaded
from latentmill.data.sources.paths import possible_path
from latentmill.errors import InputError

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts them
HINT = "run `apt-get install dataset-fashion-mnist`, or set data.path to the folder of its four files"
PARTS = {"train": None, "t10k": "test"}  # the name of each pair of files, and the split that it is
CLASSES = (  # as published
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
UBYTE = 8  # IDX's code for bytes, the only element type that is read


def files(config: DataConfig) -> list[Path]:
    """What the images depend on."""
    return [_folder(config) / f"{part}-{kind}-ubyte.gz" for part in PARTS for kind in ("images-idx3", "labels-idx1")]


def load(config: DataConfig) -> Collection:
    """All images; the published test set is the split test.

    Raises:
        InputError: a file is missing or damaged, or the files do not fit together.
    """
    folder = _folder(config)
    images, labels = zip(*(read_pair(folder, part) for part in PARTS), strict=True)
    if images[0].shape[1:] != images[1].shape[1:]:
        sizes = f"{images[0].shape[2:]} and {images[1].shape[2:]}"
        raise InputError(f"{folder}: training and test images must be of one size, but are {sizes}")
    items = [
        Item(f"{part} {row}", CLASSES[label] if label < len(CLASSES) else str(label), split=split)
        for (part, split), part_labels in zip(PARTS.items(), labels, strict=True)
        for row, label in enumerate(part_labels.tolist())
    ]
    description = f"Fashion-MNIST, articles of clothing in 10 classes, from {folder}"
    return Loaded(description, items, images=np.concatenate(images))


def _folder(config: DataConfig) -> Path:
    return FOLDER if config.path is None else possible_path(config.path)


def read_pair(folder: Path, part: str) -> tuple[Bytes, npt.NDArray[np.uint8]]:
    """The images, N×1×H×W, and labels, N, of one of `PARTS`.

    Raises:
        InputError: a file is missing or damaged, or both do not fit together.
    """
    images_path = folder / f"{part}-images-idx3-ubyte.gz"
    labels_path = folder / f"{part}-labels-idx1-ubyte.gz"
    images = read_idx(images_path, rank=3)[:, None]  #  N×1×H×W
    labels = read_idx(labels_path, rank=1)  #           N
    if images.size == 0:
        raise InputError(f"{images_path} must hold at least 1 image of at least 1 pixel, but has shape {images.shape}")
    if len(labels) != len(images):
        raise InputError(f"{labels_path} must hold {len(images)} labels, one an image, but holds {len(labels)}")
    return images, labels


def read_idx(path: Path, rank: int) -> npt.NDArray[np.uint8]:
    """The bytes of a gzipped IDX file, in the shape that its header gives, which has `rank` axes.

    Raises:
        InputError: the file is missing, is not whole, or has another type or rank.
    """
    content = _decompress(path)
    magic = bytes((0, 0, UBYTE, rank))
    if content[:4] != magic:
        raise InputError(f"{path} must begin with the magic number {magic.hex()}, but got {content[:4].hex()!r}")
    start = 4 + 4 * rank
    if len(content) < start:
        raise InputError(f"{path} must have a header of {start} bytes, but ends after {len(content)}")
    shape: tuple[Any, ...] = tuple(np.frombuffer(content, ">u4", count=rank, offset=4).tolist())
    if len(content) - start != prod(shape):
        found = len(content) - start
        raise InputError(f"{path} must hold {prod(shape)} bytes after its header, but holds {found}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _decompress(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} must exist, but there is no such file: {HINT}") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path} must be a whole gzip file, but: {error}") from None
