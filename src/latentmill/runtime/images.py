"""Images as files: a grid to look at, or the arrays themselves."""

from math import ceil, sqrt
from pathlib import Path
from typing import BinaryIO

import numpy as np

from latentmill.errors import InputError

GAP, SMALLEST_CELL = 2, 56  # pixels between images; the least side of an image on screen
SUFFIXES = (".png", ".npy", ".npz")


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lay images (N, C, H, W) in [0, 1] out in rows on white: uint8 (height, width, C).

    Small images are enlarged by a whole factor, without smoothing. Without `columns` the grid is near square.
    """
    count, channels, height, width = images.shape
    columns = columns or ceil(sqrt(count))
    scale = ceil(SMALLEST_CELL / max(height, width))
    cell = np.array([height, width]) * scale + GAP
    sheet = np.full((*(np.array([ceil(count / columns), columns]) * cell + GAP), channels), 255, np.uint8)
    pixels = np.rint(images.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for index, image in enumerate(pixels.repeat(scale, 1).repeat(scale, 2)):
        top, left = np.array(divmod(index, columns)) * cell + GAP
        sheet[top : top + height * scale, left : left + width * scale] = image
    return sheet


def save(path: Path | str, images: np.ndarray, columns: int | None = None) -> None:
    """Write images (N, C, H, W) by suffix: .png a grid, .npy the float32 array, .npz the same under `images`.

    Raises:
        InputError: the suffix is another, the images have another shape, or the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    if images.ndim != 4 or not images.size:
        raise InputError(f"images must have the shape (N, C, H, W), none of it 0, but got {images.shape}")
    if path.suffix == ".png" and images.shape[1] > 4:
        raise InputError(f"images in a PNG must have at most 4 channels, but got {images.shape[1]}")
    try:
        _write_whole(path, images, columns)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"an output must be a file that can be written, but got {str(path)!r}: {reason}") from None


def check_suffix(path: Path) -> None:
    """Raises: InputError: `save` would not know what to write to `path`."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"an output must end in {', '.join(SUFFIXES)}, but got {str(path)!r}")


def _write_whole(path: Path, images: np.ndarray, columns: int | None) -> None:
    """Write beside `path`, then rename: a failure leaves what was there, and nothing else."""
    partial = path.with_name(f".{path.name}.partial")
    partial.touch()
    try:
        with partial.open("wb") as file:
            _write(file, path.suffix, images, columns)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(file: BinaryIO, suffix: str, images: np.ndarray, columns: int | None) -> None:
    if suffix == ".npy":
        np.save(file, images.astype(np.float32), allow_pickle=False)
    elif suffix == ".npz":
        np.savez_compressed(file, images=images.astype(np.float32))
    else:
        from PIL import Image  # here, because it takes time to import and only this needs it

        sheet = grid(images, columns)
        Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(file, "PNG")
