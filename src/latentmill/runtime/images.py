"""Images as files: a grid to look at, a folder of pictures, or the arrays themselves."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from math import ceil, sqrt
from pathlib import Path
from typing import IO

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime.partial import partial_output

GAP, SMALLEST_CELL = 2, 56  # pixels between images; the least side of an image on screen
SUFFIXES = (".png", ".npy", ".npz")
COLOUR_TYPES = (0, 4, 2, 6)  # of a PNG, by the number of channels
LARGEST_GRID = 10_000  # images: more make a picture that hardly a program opens
Batches = Iterable[np.ndarray]  # each (n, C, H, W)


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lay images (N, C, H, W) in [0, 1] out in rows on white: uint8 (height, width, C).

    Small images are enlarged by a whole factor, without smoothing. Without `columns` the grid is near square.
    """
    count, channels, height, width = images.shape
    columns = columns or ceil(sqrt(count))
    scale = ceil(SMALLEST_CELL / max(height, width))
    cell = np.array([height, width]) * scale + GAP
    sheet = np.full((*(np.array([ceil(count / columns), columns]) * cell + GAP), channels), 255, np.uint8)
    for index, image in enumerate(as_bytes(images).repeat(scale, 1).repeat(scale, 2)):
        top, left = np.array(divmod(index, columns)) * cell + GAP
        sheet[top : top + height * scale, left : left + width * scale] = image
    return sheet


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1] as uint8 (N, H, W, C)."""
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def save(path: Path | str, images: np.ndarray, columns: int | None = None) -> None:
    """Write images (N, C, H, W) as `write` does.

    Raises:
        InputError: as `write`, or the images have another shape.
    """
    if images.ndim != 4 or not images.size:
        raise InputError(f"images must have the shape (N, C, H, W), none of it 0, but got {images.shape}")
    write(Path(path), [images], images.shape, columns)


def write(path: Path, batches: Batches, shape: tuple[int, ...], columns: int | None = None) -> None:
    """Write images of `shape` (N, C, H, W), which come in batches, a batch at a time.

    By suffix: .png a grid, .npy the float32 array, .npz the same under `images`; without one a folder of numbered
    PNGs. What was at `path` stays until all is written; a folder must not be there yet.

    Raises:
        InputError: the path or the shape does not suit, or `path` cannot be written.
    """
    check_output(path, shape)
    try:
        with partial_output(path, folder=not path.suffix) as partial:
            _WRITERS[path.suffix](partial, batches, shape, columns)
            partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"an output must be a file that can be written, but got {str(path)!r}: {reason}") from None


def check_output(path: Path, shape: tuple[int, ...] | None = None) -> None:
    """Raises: InputError: `write` would not write images of `shape` (N, C, H, W) to `path`."""
    if path.suffix not in ("", *SUFFIXES) or path.name in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(f"an output must end in {known}, or in no suffix for a folder, but got {str(path)!r}")
    if not path.suffix and path.exists():
        raise InputError(f"an output folder must not be there yet, but {str(path)!r} is")
    if shape and path.suffix in ("", ".png") and shape[1] > 4:
        raise InputError(f"images in a PNG must have at most 4 channels, but got {shape[1]}")
    if shape and path.suffix == ".png" and shape[0] > LARGEST_GRID:
        rule = f"a grid must have at most {LARGEST_GRID} images, but got {shape[0]}"
        raise InputError(f"{rule}: .npy, .npz and a folder take any number")


def _write_npy(path: Path, batches: Batches, shape: tuple[int, ...], _: int | None) -> None:
    with path.open("wb") as file:
        _write_array(file, batches, shape)


def _write_npz(path: Path, batches: Batches, shape: tuple[int, ...], _: int | None) -> None:
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("images.npy", "w", force_zip64=True) as file:
        _write_array(file, batches, shape)


def _write_array(file: IO[bytes], batches: Batches, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for images in batches:
        file.write(np.ascontiguousarray(images, "<f4").data)


def _write_grid(path: Path, batches: Batches, _: tuple[int, ...], columns: int | None) -> None:
    _picture(path, grid(np.concatenate(list(batches)), columns))


def _write_folder(path: Path, batches: Batches, shape: tuple[int, ...], _: int | None) -> None:
    digits, number = len(str(shape[0] - 1)), 0
    for images in batches:
        for image in as_bytes(images):
            _picture(path / f"{number:0{digits}}.png", image)
            number += 1


def _picture(path: Path, pixels: np.ndarray) -> None:
    """uint8 (height, width, C) as a PNG."""
    path.write_bytes(png(pixels))


def png(pixels: np.ndarray) -> bytes:
    """uint8 (height, width, C), grey, grey and alpha, RGB or RGBA, as a PNG (RFC 2083): all it takes is zlib."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels - 1], 0, 0, 0)
    unfiltered = np.zeros((height, 1), np.uint8)  # each row begins with the filter it was passed through: none
    rows = np.concatenate([unfiltered, pixels.reshape(height, width * channels)], axis=1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


_WRITERS: dict[str, Callable[[Path, Batches, tuple[int, ...], int | None], None]] = {
    ".png": _write_grid,
    ".npy": _write_npy,
    ".npz": _write_npz,
    "": _write_folder,
}
