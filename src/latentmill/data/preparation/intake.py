"""Every image of a collection decoded and brought to one shape, on all cores or a cluster, into one array on disk.

Images of that shape that are in an array already stay there. No file ends the run: what can't be used is dropped with
its reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from latentmill.data.collection import Bytes, Collection, Dropped, Files, Item, OnProgress, Pixels
from latentmill.data.dataset import BLOCK
from latentmill.data.preparation.file_decoding import CHUNK, Decoding, Outcome, is_grey
from latentmill.data.preparation.fitting import Target, fitted, without_hidden
from latentmill.data.processes import Spread

SOURCE_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


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

    images: Bytes  # M×C×H×W, as a rule mapped from disk; some rows are of images that are not kept
    rows: np.ndarray  # int64 (N), of the images that are kept
    items: list[Item]  # N
    dropped: list[Dropped]
    facts: Facts
    is_grey: bool  # of every kept image all channels are equal


def decode_all(
    collection: Collection,
    target: Target,
    path: Path,
    processes: int,
    progress: OnProgress,
    elsewhere: Spread | None = None,
) -> Intake:
    """Decode into a new .npy file at `path`, unless they are `usable`; `progress` is called as it goes on.

    `processes` decode at a time; 0 decodes in this one. Files are decoded `elsewhere`, if given, and here where they
    can't be read there.
    """
    if (stored := usable(collection, target)) is not None:
        return _as_stored(collection, *stored)
    count = len(collection.items)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *target.shape))
    if isinstance(collection, Files):
        outcomes = Decoding(collection, target, path, images, processes, progress).outcomes(elsewhere)
    else:
        assert isinstance(collection, Pixels)
        outcomes = _converted(collection, target, images, progress)
    kept, dropped, facts, all_grey = [], list(collection.dropped), Facts(), True
    for row, (item, found) in enumerate(zip(collection.items, outcomes, strict=True)):
        if found.reason is None:
            kept.append(row)
            facts.count(found)
            all_grey = all_grey and found.is_grey
        else:
            dropped.append(Dropped(item.name, found.reason, counts=item.is_named_image or found.is_image))
    return Intake(images, np.array(kept, np.int64), [collection.items[row] for row in kept], dropped, facts, all_grey)


def usable(collection: Collection, target: Target) -> tuple[Bytes, np.ndarray] | None:
    """The array that has the images as `target` wants them, and their rows in it; None where there is none."""
    if not isinstance(collection, Pixels) or collection.shape != target.shape or target.channels == 4:
        return None  # what alpha hides is replaced
    return collection.stored()


def _as_stored(collection: Collection, images: Bytes, rows: np.ndarray) -> Intake:
    channels, height, width = images.shape[1:]
    counts = [Counter({name: len(rows)}) for name in ("array", SOURCE_MODES[channels], f"{width}x{height}")]
    blocks = (images[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
    all_grey = channels == 1 or all(is_grey(np.moveaxis(block, 1, 0)) for block in blocks)
    return Intake(images, rows, list(collection.items), list(collection.dropped), Facts(*counts), all_grey)


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
            found.append(Outcome(None, True, "array", mode, size, changes, is_grey(images[row])))
        progress("images converted", len(found), len(collection.items))
    return found


def _picture(pixels: Bytes) -> Image.Image:
    """C×H×W as an image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
