"""All sets of images brought to one shape the same way, on disk, so that memory does not grow with their number."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Item, OnProgress, Pixels
from latentmill.data.dataset import write_images
from latentmill.data.numpy_files import read_npy
from latentmill.data.preparation.fitting import Target
from latentmill.data.preparation.intake import Intake, decode_all
from latentmill.data.preparation.requirements import count_unusable, require_readable, require_room
from latentmill.data.preparation.summary import seen
from latentmill.data.preparation.target import target
from latentmill.errors import InputError
from latentmill.judging.renaming import ArgumentError, argument_errors

SAMPLES, TRAIN, HELD_OUT = "samples", "training images", "held-out images"  # what the sets are called
Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one collection."""

    description: str
    images: np.ndarray  # uint8 (N, C, H, W), mapped from disk
    items: list[Item]  # N
    facts: Json  # of the files, as the manifest of a prepared data set has them under `intake`
    digest: str  # of the images
    in_colour: bool

    @property
    def resized(self) -> bool:
        """Whether some images had another size."""
        changes = " ".join(self.facts["conversions"])
        return "enlarged" in changes or "reduced" in changes


def read_sets(
    collections: Mapping[str, Collection], config: DataConfig, folder: Path, processes: int, progress: OnProgress
) -> dict[str, ImageSet]:
    """Each collection decoded into `folder`: in the size of `config`, or the commonest of the samples.

    Grey only if all images of all sets are.

    Raises:
        InputError: no size is common, too many images are unreadable, or the disk is full.
    """
    shape = _shape(collections, config)
    _require_room(folder, _most_at_once({name: len(each.items) for name, each in collections.items()}, shape))
    intakes = {
        name: _decoded(each, name, shape, config, folder, processes, progress) for name, each in collections.items()
    }
    channels = 1 if all(each.is_grey for each in intakes.values()) else shape.channels
    found = {}
    for name in collections:
        each, path = intakes.pop(name), folder / f"{name}.npy"
        digest = write_images(path, each.images, each.rows, channels, progress)
        _decoded_file(folder, name).unlink(missing_ok=True)  # its room is free once `each` is the next
        description, images = collections[name].description, np.asarray(read_npy(path))
        found[name] = ImageSet(description, images, each.items, seen(each), digest, not each.is_grey)
    return found


def _most_at_once(counts: Mapping[str, int], shape: Target) -> int:
    """The bytes on disk: each set decoded and as it is used; then that, the real images joined, and in their splits."""
    real = sum(count for name, count in counts.items() if name != SAMPLES)
    copies = 3 if HELD_OUT in counts else 2
    return max(2 * sum(counts.values()), counts[SAMPLES] + copies * real) * prod(shape.shape)


def _decoded_file(folder: Path, name: str) -> Path:
    return folder / f"all {name}.npy"


def _require_room(folder: Path, size: int) -> None:
    try:
        require_room(folder, size)
    except InputError as error:
        raise ArgumentError(str(error).removesuffix(" and data.limit"), "size", "data.size") from None


def _shape(collections: Mapping[str, Collection], config: DataConfig) -> Target:
    """That of the samples, because a generator makes one size; in colour where any set may be."""
    with argument_errors("size", "data.size", f"{SAMPLES}: "):
        first = target(collections[SAMPLES], config)
    sized = config.model_copy(update={"size": (first.height, first.width)})
    channels = max(target(each, sized).channels for each in collections.values())
    return Target(channels, first.height, first.width, config.fit, config.background)


def _decoded(
    collection: Collection,
    name: str,
    shape: Target,
    config: DataConfig,
    folder: Path,
    processes: int,
    progress: OnProgress,
) -> Intake:
    processes = 0 if isinstance(collection, Pixels) else processes
    intake = decode_all(collection, shape, _decoded_file(folder, name), processes, progress)
    try:
        require_readable(intake, collection.description, *count_unusable(intake, collection), config.max_dropped)
    except InputError as error:
        rule, but, found = str(error).partition(", but ")
        raise InputError(f"{name}: {rule.removesuffix(' (data.max_dropped)')}{but}{found}") from None
    return intake


def joined(sets: Iterable[ImageSet], path: Path) -> np.ndarray:
    """The images of several sets, one after the other, in a new .npy file: uint8 (N, C, H, W), mapped from disk."""
    parts = [each.images for each in sets]
    if len(parts) == 1:
        return parts[0]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    whole = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    np.concatenate(parts, out=whole)
    whole.flush()
    return np.asarray(read_npy(path))
