"""NumPy's files, read without ever unpickling: a file of Python objects, ragged images among them, is refused."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from zipfile import ZIP_STORED

import numpy as np
from numpy.lib.npyio import NpzFile

from latentmill.data.collection import Array
from latentmill.errors import InputError
from latentmill.runtime.damage import DAMAGE

MAPPED_FROM, PIECE = 1 << 26, 1 << 20  # bytes: of an array in a .npz file; read at a time
LOCAL_HEADER = 30  # bytes of a zip, before a member's name
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> Array:
    """The array in a .npy file, mapped from disk: read-only, and in memory only where it is used.

    Raises:
        InputError: the file is missing, damaged, or holds Python objects.
    """
    with _refusing_damage(path):
        if path.stat().st_size == 0:
            raise EOFError("it is empty")
        return np.lib.format.open_memmap(path, mode="r")


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays in a .npz file, by name: in memory, or mapped from disk if they are large and not compressed.

    Raises:
        InputError: the file is missing, damaged, or holds anything but arrays of numbers and strings.
    """
    with _refusing_damage(path), path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        content = {name: _array(path, archive, name) for name in archive.files}
    for name, array in content.items():
        if not isinstance(array, np.ndarray):  # NpzFile hands out an entry of another format as bytes
            raise InputError(f"{path}: {name} must be a NumPy array, but is a file of another format")
    return content


def _array(path: Path, archive: NpzFile, name: str) -> Array:
    mapped = _mapped(path, archive, name)
    found: Array = archive[name] if mapped is None else mapped
    return found


def _mapped(path: Path, archive: NpzFile, name: str) -> Array | None:
    """A large array of an archive that is stored as it is; None where it is another."""
    assert archive.zip is not None  # as after closing
    entry = {each.filename: each for each in archive.zip.infolist()}.get(f"{name}.npy")
    if entry is None or entry.compress_type != ZIP_STORED or entry.file_size < MAPPED_FROM:
        return None
    with archive.zip.open(entry) as stream:  # to its end, where its checksum is compared
        while stream.read(PIECE):
            pass
    with path.open("rb") as file:
        file.seek(entry.header_offset + LOCAL_HEADER - 4)
        lengths = struct.unpack("<HH", file.read(4))  # of the name and what else stands before the content
        start = file.seek(sum(lengths), os.SEEK_CUR)
        read_header = HEADERS.get(np.lib.format.read_magic(file))
        if read_header is None:
            return None
        shape, is_fortran, dtype = read_header(file)
        is_whole = file.tell() - start + prod(shape) * dtype.itemsize == entry.file_size
        if dtype.hasobject or not is_whole:
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} must exist, but there is no such file") from None
    except DAMAGE as error:
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{path} must be a whole NumPy file without Python objects, but: {found}") from None
