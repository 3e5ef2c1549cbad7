"""The arguments of callers, checked and converted to the float32 that the graphs take."""

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime.levels import white_level


def numbers(name: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows (N, *shape) of finite numbers as contiguous float32.

    Raises:
        InputError: they have another shape or no rows, or some is not a finite real number.
    """
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{name} must be an array, but got lists of different lengths") from None
    sizes = "".join(f", {size}" for size in shape)
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape or not len(array):
        raise InputError(f"{name} must have the shape (N{sizes}) with N at least 1, but got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, but got the type {array.dtype}")
    found = as_float32(array)
    if not np.isfinite(found).all():
        raise InputError(f"{name} must be finite as float32, but got {array[~np.isfinite(found)][0]}")
    return found


def as_float32(given: np.ndarray) -> np.ndarray:
    """Real numbers as contiguous float32; those that are too large become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(given, dtype=np.float32)


def require_finite(where: str, found: list[np.ndarray]) -> list[np.ndarray]:
    """What a graph gives, as it is.

    Raises:
        InputError: some of it is not finite, because a number grew too large within the graph; it names `where`.
    """
    for array in found:
        if not np.isfinite(array).all():
            raise InputError(
                f"{where} must give finite numbers, but gives {array[~np.isfinite(array)][0]} for this input"
            )
    return found


def indices(name: str, given: np.ndarray, shape: tuple[int, ...], entries: int) -> np.ndarray:
    """Rows (N, *shape) of indices into a codebook of so many entries, as contiguous float32.

    Raises:
        InputError: as `numbers`, or one is not a whole number from 0 to entries - 1.
    """
    found = numbers(name, given, shape)
    wrong = (found != np.floor(found)) | (found < 0) | (found >= entries)
    if wrong.any():
        raise InputError(f"{name} must be indices, whole numbers from 0 to {entries - 1}, but got {found[wrong][0]:g}")
    return found


def pixels(given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images (N, C, H, W) as float32 in [0, 1]: of booleans, floats in [0, 1], or integers to 255.

    Raises:
        InputError: as `numbers`, or a value is outside, or integers up to 1 have two possible meanings.
    """
    array = np.asarray(given)
    found = numbers("images", array.astype(np.uint8) if array.dtype == bool else array, shape)
    white = white_level(array.dtype, found.min().item(), found.max().item(), "images", black=True)
    return found if white == 1 else found / np.float32(white)
