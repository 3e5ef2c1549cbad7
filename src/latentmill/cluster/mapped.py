"""Images that are in a machine's memory once: its processes map the same file."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from latentmill.cluster.connection import is_private, on_each_node, require_shared
from latentmill.cluster.staging import Stored, send
from latentmill.data.dataset import read_manifest, stored_as
from latentmill.errors import InputError
from latentmill.storage import Storage

SMALL = 2**28  # bytes, up to which an array goes through the object store
Stamp = tuple[int, int, int, int]  # a file's size, times of change of its content and its inode, and inode


class ChangedDataError(InputError):
    """The prepared data changed while a stage used them."""


def placed(array: np.ndarray, storage: Storage) -> np.ndarray:
    """`array` in the form in which it is best sent to tasks of the cluster.

    One that is mapped from a file is sent as its path on a private cluster, and each process maps the file. Otherwise
    its content is sent to each node once: through the object store, or, if it is larger than `SMALL`, through `storage`
    to a file that the processes of the node map. Where a node sees the same file, its processes map that one.

    Raises:
        InputError: a node can't reach `storage`, or has no room.
    """
    if not isinstance(array, np.memmap) or array.filename is None:
        return np.asarray(array)
    path = Path(array.filename).absolute()
    stamp = _stamp(path)
    if not is_private() and array.nbytes <= SMALL:
        return np.asarray(array)
    if is_private() or all(on_each_node(_sees, path, stamp)):
        return Mapped.open(path, stamp)
    stored = _stored(path, storage)
    on_each_node(_require_readable, path, stamp, stored)
    return Mapped.open(path, stamp, stored)


def _stored(path: Path, storage: Storage) -> Stored:
    """A file of a prepared data set, in the store."""
    require_shared(storage)
    manifest = read_manifest(path.parent)
    name = f"{stored_as(manifest['digest'])}/{path.name}"
    send(path, storage, name)
    return Stored(storage.url, name, path.stat().st_size, manifest["digests"][path.stem])


def _sees(path: Path, stamp: Stamp) -> bool:
    try:
        return _stamp(path) == stamp
    except ChangedDataError:
        return False


def _require_readable(path: Path, stamp: Stamp, stored: Stored) -> None:
    Mapped.open(path, stamp, stored)


class Mapped(np.ndarray[Any, Any]):
    """A whole .npy file, read-only, which is pickled as its path; a part of it is pickled by content."""

    origin: tuple[Path, Stamp, Stored | None] | None = None

    @classmethod
    def open(cls, path: Path, stamp: Stamp, stored: Stored | None = None) -> Self:
        """The file at `path` with this stamp, or else this machine's copy of what is `stored`.

        Raises:
            ChangedDataError: there is neither.
            InputError: there can be no copy.
        """
        if stored is None:
            _require(path, stamp)
        found = path if stored is None or _sees(path, stamp) else stored.staged()
        mapped = np.asarray(np.lib.format.open_memmap(found, mode="r")).view(cls)
        mapped.origin = path, stamp, stored
        return mapped

    def require_unchanged(self) -> None:
        """Raises ChangedDataError where the file was replaced."""
        if self.origin:
            _require(*self.origin[:2])

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (self.open, self.origin) if self.origin else np.asarray(self).__reduce_ex__(protocol)


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
