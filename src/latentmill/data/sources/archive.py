"""Archives of image files, read where they lie without unpacking: .zip, .tar, and WebDataset's shards of .tar files."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Dropped, Files, Locator, UnreadableError
from latentmill.data.sources import tree
from latentmill.data.sources.members import REPLACED, members, read_member
from latentmill.data.sources.paths import required_path
from latentmill.errors import InputError

SUFFIXES = (".zip", ".tar")
RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
MOST = 100_000  # archives of one data set


def files(config: DataConfig) -> list[Path]:
    """The archives: {000..099} in data.path stands for each number, with as many digits.

    Raises:
        InputError: one is missing, or is none, or there are more than `MOST`.
    """
    pattern = str(required_path(config, "a .zip or .tar file"))
    _require_bounded(pattern)
    found = [Path(name) for name in expanded(pattern)]
    for path in found:
        if path.suffix.lower() not in SUFFIXES:
            packed = path.suffix == ".tgz" or ".tar." in path.name
            advice = "; unpack it or pack it again: only these can be read at any place" if packed else ""
            raise InputError(f"data.path must end in .zip or .tar for the source archive, but got {path}{advice}")
        if not path.is_file():
            raise InputError(f"{path} must exist, but there is no such file")
    return found


def load(config: DataConfig) -> Collection:
    """The images in all archives. Of several, each is a tree of its own.

    Raises:
        InputError: an archive is missing or damaged, or its metadata is.
    """
    archives = files(config)
    items, locators, dropped = [], [], []
    for path in archives:
        listed = members(path)
        known = {member.name: member.locator for member in listed if member.reason is None}
        is_tar = path.suffix.lower() == ".tar"
        found = tree.images(list(known), partial(_read_small, known), config, str(path), sidecars=is_tar)
        refused = [Dropped(name, reason, counts=reason != REPLACED) for name, _, reason in listed if reason is not None]
        prefix = f"{path.name}/" if len(archives) > 1 else ""  # names may stand in several
        items += [replace(item, name=prefix + item.name) for item in found.items]
        locators += [known[name] for name in found.paths]
        dropped += [replace(each, name=prefix + each.name) for each in refused + found.dropped]
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


def _require_bounded(pattern: str) -> None:
    """Raises: InputError: ranges run backwards, or stand for too many names."""
    counts = [int(last) - int(first) + 1 for first, last in RANGE.findall(pattern)]
    if any(count < 1 for count in counts) or prod(counts) > MOST:
        raise InputError(f"ranges in data.path must stand for 1 to {MOST:,} archives, but got {pattern}")


def _read_small(known: dict[str, Locator], name: str) -> bytes:
    try:
        return read_member(known[name])
    except UnreadableError as error:
        raise InputError(f"{known[name][0]}: {name} must be readable, but is not: {error}") from None
