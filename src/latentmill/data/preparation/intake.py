"""Every image of a collection decoded and brought to one shape, on all cores, into one array on disk.

No file ends the run: what can't be used is dropped with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from latentmill.data.collection import (
    Bytes,
    Collection,
    Dropped,
    Files,
    Item,
    NoImageError,
    NotAnImageError,
    OnProgress,
    Pixels,
    UnreadableError,
)
from latentmill.data.preparation.decoding import decode
from latentmill.data.preparation.fitting import Target, fitted, without_hidden
from latentmill.data.processes import mapped

CHUNK, CHUNK_BYTES = 64, 1 << 23  # images a task, and bytes where they are read before they are handed out
SOURCE_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class Outcome(NamedTuple):
    """What was decoded of one item, or why not."""

    reason: str | None  # why it is dropped; None where its pixels are in the array
    is_image: bool = True  # it claims to be one
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # width and height
    conversions: tuple[str, ...] = ()
    is_grey: bool = True


@dataclass
class Facts:
    """What was seen of the images that are kept, counted."""

    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)  # as "width x height"
    conversions: Counter[str] = field(default_factory=Counter)

    def count(self, found: Outcome) -> None:
        self.formats[found.format] += 1
        self.modes[found.mode] += 1
        self.sizes["{}x{}".format(*found.size)] += 1
        self.conversions.update(found.conversions)


@dataclass(frozen=True, eq=False)
class Intake:
    """The images of a collection, decoded."""

    images: Bytes  # M×C×H×W, mapped from disk; the rows of dropped images are 0
    rows: np.ndarray  # int64 (N), of the images that are kept
    items: list[Item]  # N
    dropped: list[Dropped]
    facts: Facts
    is_grey: bool  # of every kept image all channels are equal


def decode_all(collection: Collection, target: Target, path: Path, processes: int, progress: OnProgress) -> Intake:
    """Decode into a new .npy file at `path`; `progress` is called as it goes on.

    `processes` decode at a time; 0 decodes in this one.
    """
    count = len(collection.items)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *target.shape))
    if isinstance(collection, Files):
        outcomes = _decoded(collection, target, path, processes, progress)
    else:
        assert isinstance(collection, Pixels)
        outcomes = _converted(collection, target, images, progress)
    kept, dropped, facts, is_grey = [], list(collection.dropped), Facts(), True
    for row, (item, found) in enumerate(zip(collection.items, outcomes, strict=True)):
        if found.reason is None:
            kept.append(row)
            facts.count(found)
            is_grey = is_grey and found.is_grey
        else:
            dropped.append(Dropped(item.name, found.reason, counts=item.is_named_image or found.is_image))
    return Intake(images, np.array(kept, np.int64), [collection.items[row] for row in kept], dropped, facts, is_grey)


def _decoded(collection: Files, target: Target, path: Path, processes: int, progress: OnProgress) -> list[Outcome]:
    work = enumerate(_contents(collection) if collection.in_order else collection.locators)
    read = _given if collection.in_order else collection.read
    tasks = _chunks(work)
    found: list[Outcome] = [Outcome("never decoded")] * len(collection.items)
    done = 0
    for task, outcomes in mapped(_decode_chunk, tasks, processes, read, target, path):
        for (row, _), outcome in zip(task, outcomes or [Outcome("it ends the decoder's process")], strict=True):
            found[row] = outcome
        done += len(task)
        progress("images decoded", done, len(found))
    return found


def _chunks(work: Iterable[tuple[int, Any]]) -> Iterator[list[Any]]:
    chunk, size = list[Any](), 0
    for row, content in work:
        chunk.append((row, content))
        size += len(content) if isinstance(content, bytes) else 0
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


def _decode_chunk(work: list[tuple[int, Any]], read: Any, target: Target, path: Path) -> list[Outcome]:
    """In any process: decode what `read` makes of each locator into its row of the array at `path`."""
    images = np.asarray(np.lib.format.open_memmap(path, mode="r+"))  # rows of a memmap cost a tenth of the decoding
    return [_decode_one(read, locator, target, images[row]) for row, locator in work]


def _decode_one(read: Any, locator: Any, target: Target, row: Bytes) -> Outcome:
    try:
        decoded = decode(read(locator))
    except (UnreadableError, NotAnImageError) as error:
        return Outcome(str(error), is_image=False)
    except NoImageError as error:
        return Outcome(str(error))
    pixels, changes = fitted(decoded.image, target)
    row[:] = pixels
    conversions = decoded.conversions + changes
    return Outcome(None, True, decoded.format, decoded.mode, decoded.size, conversions, _is_grey(pixels))


def _is_grey(image: Bytes) -> bool:
    """Whether all channels of colour, C×H×W, are equal."""
    first = image[:3, :1]  # a row settles it for most colour images
    return len(image) == 1 or bool((first == first[:1]).all() and (image[:3] == image[:1]).all())


def _converted(collection: Pixels, target: Target, images: Bytes, progress: OnProgress) -> list[Outcome]:
    channels, height, width = collection.shape
    mode, size = SOURCE_MODES[channels], (width, height)
    found = []
    for start in range(0, len(collection.items), CHUNK):
        chunk = range(start, min(start + CHUNK, len(collection.items)))
        block = collection.block(np.array(chunk, np.int64))
        for row, pixels in zip(chunk, block, strict=True):
            changes: tuple[str, ...] = ()
            if pixels.shape == target.shape:
                images[row] = without_hidden(pixels, target.background)
            else:
                images[row], changes = fitted(_picture(pixels), target)
            found.append(Outcome(None, True, "array", mode, size, changes, _is_grey(images[row])))
        progress("images converted", len(found), len(collection.items))
    return found


def _picture(pixels: Bytes) -> Image.Image:
    """C×H×W as an image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
