"""Files of the prepared data in the trial store, and one copy of each on every machine, which its processes map.

The copies of a data set stay in TMPDIR, where the next stage finds them, until another data set is copied there.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from latentmill.data.dataset import STORED, content_digest
from latentmill.data.numpy_files import read_npy
from latentmill.errors import InputError
from latentmill.runtime.partial import lock, partial_output
from latentmill.storage import Storage

_held: dict[Path, int | None] = {}  # data sets that this process maps, locked until it ends


def send(path: Path, storage: Storage, name: str) -> None:
    """Put a file into the store, unless it is there as it should be.

    Raises:
        InputError: the store can't be written.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            if digest != _digest(storage, name):
                file.seek(0)
                storage.write_stream(name, file)
    except OSError as error:
        raise InputError(f"train.storage must be a place that can be written, but {storage}: {error}") from None


def fetch(storage: Storage, name: str, path: Path) -> None:
    """Copy a file of the store to `path`. Raises OSError where it is not there, or can't be read."""
    with storage.reading(name) as stream, path.open("wb") as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        os.fsync(file.fileno())


def _digest(storage: Storage, name: str) -> bytes | None:
    try:
        with storage.reading(name) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None


@dataclass(frozen=True)
class Stored:
    """An array of a prepared data set in the trial store."""

    url: str  # of the store
    name: str  # in the store
    size: int  # bytes
    digest: str  # of its content

    def staged(self) -> Path:
        """This machine's copy, which is made if there is none.

        Raises:
            InputError: the store can't be reached from here, or has something else; or there is no room.
        """
        root = _root()
        path = root / self.name
        with FileLock(root / ".lock"):
            _hold(path.parent)
            if not path.exists():
                _free_others(root, path.parent)
                self._copy(path)
        return path

    def _copy(self, path: Path) -> None:
        free = shutil.disk_usage(path.parent).free
        if self.size > free:
            got = f"{platform.node()} has {free / 1e9:.3g} for {self.size / 1e9:.3g} GB: set TMPDIR before `ray start`"
            raise InputError(f"every node must have room for the images in {path.parents[1]}, but {got}")
        with partial_output(path) as partial:
            try:
                fetch(Storage(self.url), self.name, partial)
            except OSError as error:
                rule = "the images must be reachable from every node"
                raise InputError(f"{rule}, but on {platform.node()} {self.url}: {error}") from None
            if content_digest(read_npy(partial)) != self.digest:
                rule = f"the images in {self.url} must be as they were sent"
                raise InputError(f"{rule}, but {self.name} is not: run again")
            partial.replace(path)


def _root() -> Path:
    """This user's folder on this machine.

    Raises:
        InputError: it is another user's.
    """
    root = Path(tempfile.gettempdir(), f"latentmill-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if found.st_uid != os.getuid() or root.is_symlink():
        raise InputError(f"images are copied to a folder of one's own, but {root} is another's: set TMPDIR")
    return root


def _hold(folder: Path) -> None:
    """Let no other process remove a data set before this one ends."""
    if folder not in _held:
        folder.mkdir(exist_ok=True)
        _held[folder] = lock(folder, shared=True)


def _free_others(root: Path, kept: Path) -> None:
    """Remove the data sets that no process maps."""
    for folder in root.glob(f"{STORED}*"):
        descriptor = None if folder == kept else lock(folder, wait=False)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
