"""Outputs that are not complete yet.

Each lies beside its target under a name of its own, locked by its writer: so two writers of the same target never share
one, and what a killed writer has left is known by its lock, which the kernel has released.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from glob import escape
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where leftovers stay
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def partial_output(target: Path, folder: bool = False) -> Iterator[Path]:
    """Within the block, a new empty file or folder beside `target`, to be filled and renamed to it.

    Where it was not renamed it is removed at the end. What killed writers of `target` have left is removed before.

    Raises:
        OSError: there can be none.
    """
    clear_partial(target.parent, target.name)
    path, descriptor = _made(target, folder)
    try:
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def clear_partial(folder: Path, name: str = "") -> None:
    """Remove what killed writers of the target `name`, by default of any, have left in `folder`."""
    for path in folder.glob(f".{escape(name)}*.partial"):
        descriptor = lock(path, wait=False)
        if descriptor is not None:
            _remove(path)
            os.close(descriptor)


def lock(path: Path, wait: bool = True, shared: bool = False) -> int | None:
    """A descriptor that locks a file or folder until it is closed, or the process ends; `shared` with its like.

    None where it is gone, is locked by another (unless `wait`), or where the system has no such locks.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _made(target: Path, folder: bool) -> tuple[Path, int | None]:
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        path.mkdir() if folder else path.touch(exist_ok=False)
        descriptor = lock(path)
        if path.exists():
            return path, descriptor
        if descriptor is not None:  # another process took it for a leftover, before it was locked
            os.close(descriptor)


def _remove(path: Path) -> None:
    """Whatever it is; what can't be removed is left to the next writer."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
