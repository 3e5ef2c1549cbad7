"""A user's own images, a .npy or .npz file, brought to uint8 N×C×H×W or refused with the rule that is broken.

Nothing is ever unpickled: a file of Python objects, ragged images among them, is refused.
"""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from latentmill.errors import InputError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

CHANNELS = (1, 3)  # grey or colour
MIN_SIDE = 4  # pixels; the smallest image that the convolutions can halve twice

# What NumPy, zipfile and zlib raise on a damaged file, down to the parser of a header that is not Python.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    MemoryError,
    OverflowError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(path: Path) -> tuple[Bytes, Labels | None]:
    """Images, uint8 N×C×H×W, of a .npy file, or of a .npz file that may hold labels, int64 N, beside them.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    if path.suffix == ".npz":
        content = _read_npz(path)
    elif path.suffix == ".npy":
        content = {"images": read_npy(path)}
    else:
        raise InputError(f"data.path must end in .npy or .npz, but got {str(path)!r}")
    images = to_images(content["images"], path)
    return images, _to_labels(content["labels"], len(images), path) if "labels" in content else None


def read_npy(path: Path, mapped: bool = False) -> Array:
    """The array in a .npy file; `mapped` leaves it on disk, from where what is used is read.

    Raises:
        InputError: the file is missing, damaged, or holds Python objects.
    """
    with _refusing_damage(path), path.open("rb") as file:
        if mapped:
            return np.lib.format.open_memmap(path, mode="r")
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _read_npz(path: Path) -> dict[str, Array]:
    with _refusing_damage(path), path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    if "images" not in content or not content.keys() <= {"images", "labels"}:
        raise InputError(f"{path} must hold 'images' and at most 'labels' beside, but holds {sorted(content)}")
    for name, array in content.items():
        if not isinstance(array, np.ndarray):  # NpzFile hands out an entry of another format as bytes
            raise InputError(f"{path}: {name} must be a NumPy array, but is a file of another format")
    return content


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} must exist, but there is no such file") from None
    except _DAMAGE as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} must be a whole NumPy file without Python objects, but: {found}") from None


def to_images(array: Array, path: Path) -> Bytes:
    """`array` as uint8 N×C×H×W: N×H×W gets its axis of channels, channels last are moved, floats scaled.

    Raises:
        InputError: naming `path`, the rule that `array` breaks, and its value.
    """
    if array.dtype.kind not in "uif":
        raise InputError(f"{path}: images must be integers or floats, but got dtype {array.dtype}")
    images = _channels_first(array, path)
    check_size(images, path)
    _check_range(images, path)
    if images.dtype.kind == "f":
        images = np.rint(images * 255)
    return np.ascontiguousarray(images, dtype=np.uint8)


def _channels_first(array: Array, path: Path) -> Array:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise InputError(f"{path}: images must be (N, H, W), (N, C, H, W) or (N, H, W, C), but got shape {array.shape}")
    first, last = (array.shape[axis] in CHANNELS for axis in (1, 3))
    if first == last:
        rule = "the second or the last axis, and not both, must be of 1 or 3 channels"
        raise InputError(f"{path}: {rule}, but got shape {array.shape}")
    return array if first else np.moveaxis(array, 3, 1)


def check_size(images: Array, path: Path) -> None:
    """Refuse images, N×C×H×W, of which there are none or that are too small.

    Raises:
        InputError: naming `path`, the rule and the size.
    """
    if len(images) == 0:
        raise InputError(f"{path} must hold at least 1 image, but holds 0")
    height, width = images.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{path}: images must be at least {MIN_SIDE} pixels a side, but got {height} by {width}")


def _check_range(images: Array, path: Path) -> None:
    if not np.isfinite(images).all():
        count = np.count_nonzero(~np.isfinite(images))
        raise InputError(f"{path}: images must be finite, but {count} values are NaN or infinite")
    kind, high = ("floats", 1) if images.dtype.kind == "f" else ("integers", 255)
    low_found, high_found = images.min(), images.max()
    if low_found < 0 or high_found > high:
        rule = f"images of {kind} must lie within 0..{high}"
        raise InputError(f"{path}: {rule}, but got values from {low_found} to {high_found}")


def _to_labels(labels: Array, count: int, path: Path) -> Labels:
    if labels.dtype.kind not in "biu" or not np.can_cast(labels.dtype, np.int64):
        raise InputError(f"{path}: labels must be integers that fit int64, but got dtype {labels.dtype}")
    if labels.shape != (count,):
        raise InputError(f"{path}: labels must have shape ({count},), one an image, but got {labels.shape}")
    return labels.astype(np.int64)
