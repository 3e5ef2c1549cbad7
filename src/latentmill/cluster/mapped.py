"""Images that are in a machine's memory once: its processes map the same file."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from ray.exceptions import RaySystemError, RayTaskError

from latentmill.cluster.connection import is_private
from latentmill.errors import InputError

Seen = tuple[int, int, int]  # what a file's size, time of change and number tell of it


class ChangedDataError(InputError):
    """The prepared data are no longer those that a stage began with: what it makes would be of neither."""


def placed(array: np.ndarray) -> np.ndarray:
    """`array` as it best goes to the tasks of the cluster that one is connected to, or will be.

    Mapped from a file, on a private cluster: as the path, and each process maps the file itself. Else as its content,
    which Ray brings to each node once; a node of another machine may not see the file, or see another.
    """
    if isinstance(array, np.memmap) and array.filename is not None and is_private():
        path = Path(array.filename).absolute()
        return Mapped.open(path, _seen(path))
    return np.asarray(array)


class Mapped(np.ndarray[Any, Any]):
    """A whole .npy file, read-only, that is pickled as its path. A part of it is pickled as usual."""

    origin: tuple[Path, Seen] | None = None

    @classmethod
    def open(cls, path: Path, seen: Seen) -> Self:
        """Raises: ChangedDataError: it is another file than the one that was `seen`."""
        _require(path, seen)
        mapped = np.asarray(np.lib.format.open_memmap(path, mode="r")).view(cls)
        mapped.origin = path, seen
        return mapped

    def require_unchanged(self) -> None:
        """Raises: ChangedDataError: another file is there by now."""
        if self.origin:
            _require(*self.origin)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (self.open, self.origin) if self.origin else np.asarray(self).__reduce_ex__(protocol)


def refusal(error: RaySystemError | RayTaskError) -> InputError | None:
    """The `InputError` behind what Ray raises where a task, or bringing it its arguments, did."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    found = cause.client_exc if isinstance(cause, RaySystemError) else cause
    return found if isinstance(found, InputError) else None


def _require(path: Path, seen: Seen) -> None:
    if _seen(path) != seen:
        raise ChangedDataError(
            f"the prepared data must stay as it is while it is used, but {path} has changed: run again"
        )


def _seen(path: Path) -> Seen:
    try:
        found = path.stat()
    except OSError as error:
        raise ChangedDataError(
            f"the prepared data must stay where it is while it is used, but {path}: {error.strerror}"
        ) from None
    return found.st_size, found.st_mtime_ns, found.st_ino
