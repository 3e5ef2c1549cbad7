"""A collection of images in a source: their names, labels, and how to read them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".ico", ".tga", ".ppm", ".pgm", ".dng")
IMAGE_SUFFIXES = frozenset(READ_SUFFIXES + UNREAD_SUFFIXES)  # of files that count as images even if they are damaged
OnProgress = Callable[[str, int, int], None]  # (what, done, of how many)
Locator = Any  # of one file, for its reader: picklable and small


@dataclass(frozen=True, slots=True)
class Item:
    """One image, not yet read."""

    name: str  # as the source calls it
    label: str | None = None  # the name of its class
    group: str | None = None  # whose images must not be on both sides of a split
    split: str | None = None  # train, val or test, where the source says so
    is_named_image: bool = True  # by its name, so that it counts even if it is damaged
    factors: Mapping[str, str | None] | None = None  # the value of each, where the source knows them


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file of the source that is not in the prepared data set."""

    name: str
    reason: str
    counts: bool = True  # towards data.max_dropped; a text file among images does not


class UnreadableError(Exception):
    """One file can't be had; the message says why, and the others go on."""


class NoImageError(Exception):
    """The bytes of a file are no image that can be used; the message says why."""


class NotAnImageError(NoImageError):
    """They do not even claim to be one."""


@dataclass
class Collection(ABC):
    """The images of a source."""

    description: str  # one line for people
    items: list[Item]
    dropped: list[Dropped] = field(default_factory=list)  # what never became an item

    @abstractmethod
    def chosen(self, rows: list[int]) -> "Collection":
        """The same collection with these items alone."""


@dataclass
class Files(Collection):
    """Encoded images: `read(locators[i])` gives the bytes of `items[i]`, or raises `UnreadableError`."""

    locators: list[Locator] = field(default_factory=list)
    read: Callable[[Locator], bytes] = field(kw_only=True)
    in_order: bool = False  # cheap to read only one after the other, so in one process

    def chosen(self, rows: list[int]) -> "Files":
        items, locators = [self.items[row] for row in rows], [self.locators[row] for row in rows]
        return Files(self.description, items, self.dropped, locators, read=self.read, in_order=self.in_order)


@dataclass
class Pixels(Collection):
    """Images that are decoded already."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @abstractmethod
    def block(self, rows: npt.NDArray[np.int64]) -> Bytes:
        """The images of these rows, uint8 n×C×H×W."""

    def stored(self) -> tuple[Bytes, npt.NDArray[np.int64]] | None:
        """An array M×C×H×W that has the images, and their rows in it; None where `block` converts them."""
        return None

    def chosen(self, rows: list[int]) -> "Part":
        items = [self.items[row] for row in rows]
        return Part(self.description, items, self.dropped, whole=self, rows=np.array(rows, np.int64))


@dataclass
class Loaded(Pixels):
    """Images in memory, uint8 N×C×H×W."""

    images: Bytes = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def block(self, rows: npt.NDArray[np.int64]) -> Bytes:
        return self.images[rows]

    def stored(self) -> tuple[Bytes, npt.NDArray[np.int64]]:
        return self.images, np.arange(len(self.images))


@dataclass
class Part(Pixels):
    """Some of the images of another collection."""

    whole: Pixels = field(kw_only=True)
    rows: npt.NDArray[np.int64] = field(kw_only=True)  # of the whole

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    def block(self, rows: npt.NDArray[np.int64]) -> Bytes:
        return self.whole.block(self.rows[rows])

    def stored(self) -> tuple[Bytes, npt.NDArray[np.int64]] | None:
        found = self.whole.stored()
        return None if found is None else (found[0], found[1][self.rows])
