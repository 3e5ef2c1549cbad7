"""Archives of image files, read where they lie without unpacking: .zip, .tar, and WebDataset's shards of .tar files."""

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Dropped, Files, Locator, UnreadableError
from latentmill.data.sources import tree
from latentmill.data.sources.folder import LARGEST_FILE
from latentmill.data.sources.paths import required_path
from latentmill.errors import InputError

SUFFIXES = (".zip", ".tar")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
# What zipfile and tarfile raise on a damaged or encrypted archive or member.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
)
Members = dict[str, Locator]  # path within the archive -> where it lies


def files(config: DataConfig) -> list[Path]:
    """The archives: {000..099} in data.path stands for each number, with as many digits.

    Raises:
        InputError: one is missing, or is none.
    """
    pattern = str(required_path(config, "a .zip or .tar file"))
    found = [Path(name) for name in expanded(pattern)]
    for path in found:
        if path.suffix.lower() not in SUFFIXES:
            advice = "; unpack it or pack it again: only these can be read at any place" if ".tar." in path.name else ""
            raise InputError(f"data.path must end in .zip or .tar for the source archive, but got {path}{advice}")
        if not path.is_file():
            raise InputError(f"{path} must exist, but there is no such file")
    return found


def load(config: DataConfig) -> Collection:
    """The images in all archives. Of several, each is a tree of its own, its paths below its name.

    Raises:
        InputError: an archive is missing or damaged, or its metadata is.
    """
    archives = files(config)
    items, locators, dropped = [], [], []
    for path in archives:
        members, refused = _members(path)
        found = tree.images(list(members), partial(_read_small, members), config, str(path), path.suffix == ".tar")
        items += found.items
        locators += [members[name] for name in found.paths]
        dropped += [Dropped(name, reason) for name, reason in refused.items()] + found.dropped
    whence = str(archives[0]) if len(archives) == 1 else f"{len(archives)} archives, {archives[0]} the first"
    return Files(f"images of the user, from {whence}", items, dropped, locators, read=read_member)


def expanded(pattern: str) -> Iterator[str]:
    """Every name that a pattern with ranges such as {000..099} stands for."""
    found = RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from expanded(f"{pattern[: found.start()]}{number:0{len(first)}}{pattern[found.end() :]}")


def read_member(locator: Locator) -> bytes:
    """The bytes of a file in an archive, from (archive, member of a zip) or (archive, offset, size in a tar).

    Raises:
        UnreadableError: it is damaged, encrypted, or larger than `LARGEST_FILE`.
    """
    path, *place = locator
    try:
        if len(place) == 2:
            offset, size = place
            content = os.pread(_descriptor(path), size, offset)
            if len(content) < size:
                raise UnreadableError("the archive ends before it does")
            return content
        return _zip(path).read(place[0])
    except DAMAGE as error:
        raise UnreadableError(f"unreadable in the archive: {' '.join(str(error).split())}") from None


@cache
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@cache
def _descriptor(path: str) -> int:
    return os.open(path, os.O_RDONLY)


def _members(path: Path) -> tuple[Members, dict[str, str]]:
    """The regular files of an archive, and those that are none or too large, with the reason."""
    try:
        found = list(_listed_zip(path) if path.suffix.lower() == ".zip" else _listed_tar(path))
    except DAMAGE as error:
        raise InputError(f"{path} must be a whole {path.suffix} file, but: {' '.join(str(error).split())}") from None
    reasons = {name: _reason(size) for name, _, size in found}
    return (
        {name: locator for name, locator, _ in found if reasons[name] is None},
        {name: reason for name, reason in reasons.items() if reason is not None},
    )


def _reason(size: int | None) -> str | None:
    if size is None:
        return "no regular file"
    return f"larger than {LARGEST_FILE >> 20} MiB" if size > LARGEST_FILE else None


def _listed_zip(path: Path) -> Iterator[tuple[str, Locator, int | None]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, (str(path), member.filename), member.file_size


def _listed_tar(path: Path) -> Iterator[tuple[str, Locator, int | None]]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.isdir():
                size = member.size if member.isreg() and not member.issparse() else None
                yield member.name.removeprefix("./"), (str(path), member.offset_data, member.size), size


def _read_small(members: Members, name: str) -> bytes:
    try:
        return read_member(members[name])
    except UnreadableError as error:
        raise InputError(f"{members[name][0]}: {name} must be readable, but is not: {error}") from None
