"""The files within a .zip or .tar archive: where each lies, and how it is read from there without unpacking.

A locator is (archive, offset, size) in a tar, and (archive, offset of the header, compressed size, size, method,
checksum) in a zip. Each read opens the archive anew, so that any number of shards needs no more than one descriptor.
"""

import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from latentmill.data.collection import Locator, UnreadableError
from latentmill.data.sources.folder import LARGEST_FILE
from latentmill.data.sources.paths import printable
from latentmill.errors import InputError

LOCAL_HEADER = 30  # bytes of a zip, before a member's name
ENCRYPTED = 1  # a flag of a zip
BLOCK = 512  # bytes of a tar
REPLACED = "replaced by a later member of that name"
PADDING = 20 * BLOCK  # that a tar is filled up to
# What zipfile and tarfile raise on a damaged archive.
DAMAGE = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError)


class Member(NamedTuple):
    """One file of an archive."""

    name: str  # with slashes, relative
    locator: Locator  # None where it can't be read
    reason: str | None  # why


def members(path: Path) -> list[Member]:
    """The files of an archive; of several with one name the last counts, as all unpackers have it.

    Raises:
        InputError: it is damaged.
    """
    is_zip = path.suffix.lower() == ".zip"
    try:
        found = list(_listed_zip(path) if is_zip else _listed_tar(path))
    except DAMAGE as error:
        rule = f"{path} must be a whole {path.suffix} file"
        raise InputError(f"{rule}, but: {' '.join(str(error).split())}") from None
    last = {member.name: place for place, member in enumerate(found)}
    return [
        member if last[member.name] == place else Member(member.name, None, REPLACED)
        for place, member in enumerate(found)
    ]


def read_member(locator: Locator) -> bytes:
    """The bytes of a file in an archive.

    Raises:
        UnreadableError: it is damaged.
    """
    path, offset, *place = locator
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # for each image
            return _from_zip(file, offset, *place) if len(place) > 1 else _exactly(file, offset, *place)
    except (OSError, OverflowError, struct.error, zlib.error) as error:  # an offset may lie beyond 2⁶³
        raise UnreadableError(f"unreadable in the archive: {' '.join(str(error).split())}") from None


def _exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    content = os.pread(file.fileno(), size, offset)
    if len(content) < size:
        raise UnreadableError("unreadable in the archive: it ends before")
    return content


def _from_zip(file: BinaryIO, offset: int, compressed: int, size: int, method: int, checksum: int) -> bytes:
    name, extra = struct.unpack("<HH", _exactly(file, offset, LOCAL_HEADER)[26:])
    content = _exactly(file, offset + LOCAL_HEADER + name + extra, compressed)
    if method == zipfile.ZIP_DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)  # no more than it claims
    if len(content) != size or zlib.crc32(content) != checksum:
        raise UnreadableError("unreadable in the archive: its size or checksum is another")
    return content


def _listed_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                place = member.header_offset, member.compress_size, member.file_size, member.compress_type, member.CRC
                name = member.filename.replace("\\", "/")  # as some programs for Windows have it
                yield _member(name, (str(path), *place), _zip_reason(member))


def _zip_reason(member: zipfile.ZipInfo) -> str | None:
    if member.flag_bits & ENCRYPTED:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {member.compress_type}, which is not read: pack it with deflate"
    return _size_reason(max(member.file_size, member.compress_size))


def _listed_tar(path: Path) -> Iterator[Member]:
    known: dict[str, Member] = {}
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            if not entry.isdir():
                found = _tar_member(entry, path, known)
                known[found.name] = found
                yield found
        _require_end(path, archive.offset)


def _tar_member(entry: tarfile.TarInfo, path: Path, known: dict[str, Member]) -> Member:
    if entry.islnk() or entry.issym():
        folder = posixpath.dirname(entry.name) if entry.issym() else ""
        original = known.get(_normal(posixpath.join(folder, entry.linkname)))
        if original is None:
            return _member(entry.name, None, "a link to what does not stand before it in the archive")
        return _member(entry.name, original.locator, original.reason)
    reason = None if entry.isreg() and not entry.issparse() else "no regular file"
    return _member(entry.name, (str(path), entry.offset_data, entry.size), reason or _size_reason(entry.size))


def _require_end(path: Path, offset: int) -> None:
    """tarfile stops in silence where a header is damaged: there must be zeros, or the end of the file.

    Raises:
        TarError: there are not.
    """
    with path.open("rb") as file:
        if os.pread(file.fileno(), 2 * PADDING, offset).strip(b"\0"):
            raise tarfile.ReadError(f"it has more after a damaged header or an end at byte {offset}")


def _member(name: str, locator: Locator, reason: str | None) -> Member:
    normal = _normal(name)
    if normal.partition("/")[0] == "..":
        reason = reason or "its name leads out of the archive"
    if (readable := printable(normal)) != normal:
        reason = reason or "its name is not UTF-8"
    return Member(readable, locator, reason)


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _size_reason(size: int) -> str | None:
    return f"larger than {LARGEST_FILE >> 20} MiB" if size > LARGEST_FILE else None
