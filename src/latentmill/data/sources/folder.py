"""A folder of image files, however deep."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Dropped, Files, UnreadableError
from latentmill.data.sources import tree
from latentmill.data.sources.paths import printable, required_path
from latentmill.errors import InputError

LARGEST_FILE = 1 << 28  # bytes; no image that a model here can learn from is as large
MOST_VISITS = 8  # of one folder: folders that link to one another have more paths than can be walked


def files(config: DataConfig) -> list[str]:
    """What the images depend on, and what is refused: that it is there shows in the prepared data set too."""
    root = _root(config)
    return [f"{root}/{path}" for path, _ in walk(root)]


def load(config: DataConfig) -> Collection:
    """The images below data.path.

    Raises:
        InputError: data.path is no folder, or its metadata is damaged or lacks a column of `config`.
    """
    root = _root(config)
    listed = list(walk(root))
    found = tree.images(
        [path for path, reason in listed if reason is None], partial(_read_small, root), config, str(root)
    )
    dropped = [Dropped(path, reason) for path, reason in listed if reason is not None] + found.dropped
    locators = [f"{root}/{path}" for path in found.paths]
    return Files(f"images of the user, from {root}", found.items, dropped, locators, read=read_file)


def walk(root: Path) -> Iterator[tuple[str, str | None]]:
    """Every file below `root`, as a path relative to it, with the reason where it is none that can be read.

    Links are followed, but not into a folder that they lie in, nor into one folder from ever more places.
    """
    waiting = [("", frozenset({_identity(root.stat())}))]
    visits = Counter[tuple[int, int]]()
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"unreadable folder: {error.strerror}"
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if (readable := printable(path)) != path:
                yield readable, "its name is not UTF-8"
                continue
            try:
                found = entry.stat() if entry.is_symlink() or not entry.is_file() else None
            except OSError as error:
                yield path, f"unreadable: {error.strerror}"
                continue
            if found is None or stat.S_ISREG(found.st_mode):
                yield path, None
            elif not stat.S_ISDIR(found.st_mode):
                yield path, "no regular file"
            elif (identity := _identity(found)) in above:
                yield path, "a link to a folder that it lies in"
            elif visits[identity] == MOST_VISITS:
                yield path, f"a link to a folder that is read from {MOST_VISITS} places already"
            else:
                visits[identity] += 1
                waiting.append((path, above | {identity}))


def read_file(path: str) -> bytes:
    """The content of a regular file.

    Raises:
        UnreadableError: it can't be read, or is larger than `LARGEST_FILE`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in a file's place would wait for ever
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableError("no regular file")
            if found.st_size > LARGEST_FILE:
                raise UnreadableError(f"larger than {LARGEST_FILE >> 20} MiB")
            return file.read()
    except OSError as error:
        raise UnreadableError(f"unreadable: {error.strerror}") from None
    except ValueError as error:  # a NUL in a cell of a table
        raise UnreadableError(f"unreadable: {error}") from None


def _root(config: DataConfig) -> Path:
    root = required_path(config, "a folder of images")
    if not root.is_dir():
        found = "is a file: see the sources archive, table and arrays" if root.exists() else "does not exist"
        raise InputError(f"data.path must be a folder for the source folder, but {root} {found}")
    return root


def _read_small(root: Path, path: str) -> bytes:
    try:
        return read_file(str(root / path))
    except UnreadableError as error:
        raise InputError(f"{root / path} must be readable, but is not: {error}") from None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
