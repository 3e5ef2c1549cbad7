"""Image files decoded and brought to one shape, in many processes, of this machine or elsewhere."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentmill.data.collection import Bytes, Files, NoImageError, NotAnImageError, OnProgress, UnreadableError
from latentmill.data.preparation.decoding import decode
from latentmill.data.preparation.fitting import Target, fitted
from latentmill.data.processes import Spread, Task, mapped

CHUNK, CHUNK_BYTES = 64, 1 << 23  # images a task, and bytes that are sent with it, or come back


class Outcome(NamedTuple):
    """What was decoded of one item, or why not."""

    reason: str | None  # why it is dropped; None where its pixels are in the array
    is_image: bool = True  # it claims to be one
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # width and height
    conversions: tuple[str, ...] = ()
    is_grey: bool = True
    was_read: bool = True
    pixels: bytes = b""  # of an image that was decoded where the array is not


@dataclass(frozen=True, eq=False)
class Decoding:
    """Of files into the array `images`, which is mapped from `path`."""

    collection: Files
    target: Target
    path: Path
    images: Bytes
    processes: int
    progress: OnProgress

    def outcomes(self, elsewhere: Spread | None) -> list[Outcome]:
        """Of each file."""
        in_order = self.collection.in_order
        work = enumerate(_contents(self.collection) if in_order else self.collection.locators)
        found: list[Outcome] = [Outcome("never decoded")] * len(self.collection.items)
        if elsewhere is None:
            self._decode(found, work, mapped, self.path)
            return found
        self._decode(found, work, elsewhere, None)
        if not in_order:
            again = [(row, self.collection.locators[row]) for row, each in enumerate(found) if not each.was_read]
            self._decode(found, again, mapped, self.path)
        return found

    def _decode(self, found: list[Outcome], work: Iterable[tuple[int, Any]], spread: Spread, path: Path | None) -> None:
        """Decode `work`, rows and what is read of each, into the array at `path`, or send the pixels back."""
        read, size = (
            _given if self.collection.in_order else self.collection.read,
            0 if path else prod(self.target.shape),
        )
        done = 0
        for task, outcomes in spread(_decode_chunk, _chunks(work, size), self.processes, read, self.target, path):
            for (row, _), outcome in zip(task, outcomes or [Outcome("it ends the decoder's process")], strict=True):
                if outcome.pixels:
                    self.images[row] = np.frombuffer(outcome.pixels, np.uint8).reshape(self.target.shape)
                found[row] = outcome._replace(pixels=b"")
            done += len(task)
            self.progress("images decoded", done, len(found))


def _chunks(work: Iterable[tuple[int, Any]], sent_back: int) -> Iterator[Task]:
    """`sent_back` bytes of each image."""
    chunk, size = list[Any](), 0
    for row, content in work:
        chunk.append((row, content))
        size += sent_back + (len(content) if isinstance(content, bytes) else 0)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _contents(collection: Files) -> Iterator[bytes | UnreadableError]:
    """Read here, one after the other."""
    for locator in collection.locators:
        try:
            yield collection.read(locator)
        except UnreadableError as error:
            yield error


def _given(content: bytes | UnreadableError) -> bytes:
    if isinstance(content, UnreadableError):
        raise content
    return content


def _decode_chunk(work: Task, read: Any, target: Target, path: Path | None) -> list[Outcome]:
    """In any process: decode what `read` makes of each locator into its row of the array at `path`, if there is one."""
    if path is None:
        return [_decode_one(read, locator, target, None) for _, locator in work]
    images = np.asarray(np.lib.format.open_memmap(path, mode="r+"))  # rows of a memmap cost a tenth of the decoding
    return [_decode_one(read, locator, target, images[row]) for row, locator in work]


def _decode_one(read: Any, locator: Any, target: Target, row: Bytes | None) -> Outcome:
    """Into `row`, or else into the outcome."""
    try:
        decoded = decode(read(locator))
    except UnreadableError as error:
        return Outcome(str(error), is_image=False, was_read=False)
    except NotAnImageError as error:
        return Outcome(str(error), is_image=False)
    except NoImageError as error:
        return Outcome(str(error))
    pixels, changes = fitted(decoded.image, target)
    if row is not None:
        row[:] = pixels
    found = Outcome(None, True, decoded.format, decoded.mode, decoded.size, decoded.conversions + changes)
    return found._replace(is_grey=is_grey(pixels), pixels=b"" if row is not None else pixels.tobytes())


def is_grey(image: Bytes) -> bool:
    """Whether all channels of colour, C×H×W, are equal."""
    first = image[:3, :1]  # a row settles it for most colour images
    return len(image) == 1 or bool((first == first[:1]).all() and (image[:3] == image[:1]).all())
