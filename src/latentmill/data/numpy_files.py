"""NumPy's files, read without ever unpickling: a file of Python objects, ragged images among them, is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from latentmill.data.collection import Array
from latentmill.errors import InputError
from latentmill.runtime.damage import DAMAGE


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
    """The arrays in a .npz file, by name, in memory.

    Raises:
        InputError: the file is missing, damaged, or holds anything but arrays of numbers and strings.
    """
    with _refusing_damage(path), path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
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
    except DAMAGE as error:
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{path} must be a whole NumPy file without Python objects, but: {found}") from None
