"""Images that are in a machine's memory once: its processes map the same file."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from ray.exceptions import RaySystemError, RayTaskError

from latentmill.cluster.connection import is_private
from latentmill.errors import InputError

Stamp = tuple[int, int, int, int]  # a file's size, times of change of its content and its inode, and inode


class ChangedDataError(InputError):
    """The prepared data changed while a stage used them."""


def placed(array: np.ndarray) -> np.ndarray:
    """`array` in the form in which it is best sent to tasks of the cluster.

    On a private cluster, an array that is mapped from a file is sent as its path, and each process maps the file. Any
    other array is sent as its content, once to each node; other machines may not see the file, or see another one.
    """
    if isinstance(array, np.memmap) and array.filename is not None and is_private():
        path = Path(array.filename).absolute()
        return Mapped.open(path, _stamp(path))
    return np.asarray(array)


class Mapped(np.ndarray[Any, Any]):
    """A whole .npy file, read-only, which is pickled as its path; a part of it is pickled by content."""

    origin: tuple[Path, Stamp] | None = None

    @classmethod
    def open(cls, path: Path, stamp: Stamp) -> Self:
        """Raises ChangedDataError where the file no longer has this stamp."""
        _require(path, stamp)
        mapped = np.asarray(np.lib.format.open_memmap(path, mode="r")).view(cls)
        mapped.origin = path, stamp
        return mapped

    def require_unchanged(self) -> None:
        """Raises ChangedDataError where the file was replaced."""
        if self.origin:
            _require(*self.origin)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (self.open, self.origin) if self.origin else np.asarray(self).__reduce_ex__(protocol)


def refusal(error: RaySystemError | RayTaskError) -> InputError | None:
    """The `InputError` that a task, or unpickling its arguments, has raised; None where it was another error."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    found = cause.client_exc if isinstance(cause, RaySystemError) else cause
    return found if isinstance(found, InputError) else None


def _require(path: Path, stamp: Stamp) -> None:
    if _stamp(path) != stamp:
        raise ChangedDataError(
            f"the prepared data must stay as it is while it is used, but {path} has changed: run again"
        )


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        raise ChangedDataError(
            f"the prepared data must stay where it is while it is used, but {path}: {error.strerror}"
        ) from None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
