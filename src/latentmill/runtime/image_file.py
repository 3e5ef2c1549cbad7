"""The images of an .npy or .npz file, whatever else it may hold: nothing is unpickled, and nothing larger is read."""

import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from latentmill.errors import InputError, shown
from latentmill.runtime.damage import DAMAGE
from latentmill.runtime.graph import LARGEST
from latentmill.runtime.levels import white_level
from latentmill.runtime.regular_file import open_regular

ARCHIVE, ARRAY = b"PK", b"\x93NUMPY"  # with which an .npz begins, and an .npy
RULE = "images must be an .npy, or an .npz with `images`, but"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_images(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Images float32 (N, C, H, W) in [0, 1] from an .npy or .npz (`images`).

    Channels may come last, and grey images may be (N, H, W). Booleans are black and white, integers 0 to 255, floats
    0 to 1.

    Raises:
        InputError: the file cannot be read, is too large, or its images have another shape or other values.
    """
    images = _loaded(path)
    channels, height, width = shape
    if images.shape[1:] == (height, width) and channels == 1:
        images = images[:, None]
    elif images.shape[1:] == (height, width, channels):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1:] != shape or not len(images):
        raise InputError(
            f"images in {path} must have the shape (N, {', '.join(map(str, shape))}), but have {images.shape}"
        )
    white = white_level(images.dtype, images.min(), images.max(), f"images in {path}", black=True)
    return images.astype(np.float32) / np.float32(white)


def _loaded(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as file:
            start = file.read(len(ARRAY))
            file.seek(0)
            if start == ARRAY:
                return _array(file, path)
            if not start.startswith(ARCHIVE):
                raise InputError(f"{RULE} {path} is neither")
            with zipfile.ZipFile(file) as archive, archive.open("images.npy") as member:
                return _array(member, path)
    except InputError:
        raise
    except IsADirectoryError:
        raise InputError(f"{RULE} {path} is a folder") from None
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{RULE} {path}: {reason}") from None


def _array(file: IO[bytes], path: Path) -> np.ndarray:
    """What the header promises is looked at before there is memory for it."""
    shape, _, dtype = HEADERS[npy.read_magic(file)](file)
    if dtype.kind not in "buif":
        raise InputError(f"images in {path} must be booleans, integers or floats, but got dtype {dtype}")
    if prod(shape) * max(dtype.itemsize, 4) > LARGEST:
        raise InputError(f"images in {path} must take at most {LARGEST >> 30} GiB as float32, but have {shown(shape)}")
    file.seek(0)
    found: np.ndarray = npy.read_array(file, allow_pickle=False)
    return found
