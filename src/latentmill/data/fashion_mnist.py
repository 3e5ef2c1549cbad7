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

from latentmill.data.arrays import Bytes, Labels, check_size
from latentmill.errors import InputError

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts them
HINT = "run `apt-get install dataset-fashion-mnist`, or set data.path to the folder of its four files"
UBYTE = 8  # IDX's code for bytes, the only element type that is read


def load(folder: Path) -> tuple[Bytes, Labels, Bytes, Labels]:
    """Training images, N×1×H×W, and labels, N, then test images and labels.

    Raises:
        InputError: a file is missing or damaged, or the files do not fit together.
    """
    images, labels = _read_pair(folder, "train")
    test_images, test_labels = _read_pair(folder, "t10k")
    if images.shape[1:] != test_images.shape[1:]:
        sizes = f"{images.shape[2:]} and {test_images.shape[2:]}"
        raise InputError(f"{folder}: training and test images must be of one size, but are {sizes}")
    return images, labels, test_images, test_labels


def _read_pair(folder: Path, part: str) -> tuple[Bytes, Labels]:
    images_path = folder / f"{part}-images-idx3-ubyte.gz"
    labels_path = folder / f"{part}-labels-idx1-ubyte.gz"
    images = read_idx(images_path, rank=3)[:, None]  #  N×1×H×W
    labels = read_idx(labels_path, rank=1)  #           N
    check_size(images, images_path)
    if len(labels) != len(images):
        raise InputError(f"{labels_path} must hold {len(images)} labels, one an image, but holds {len(labels)}")
    return images, labels.astype(np.int64)


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
