"""The prepared data set: three splits on disk, as plain arrays with a manifest.

The digest in the manifest names the content: equal digests, equal images in equal order.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.data.arrays import Array, Bytes, Labels, read_npy
from latentmill.errors import InputError
from latentmill.files import write_json

SPLITS = ("train", "val", "test")  # in the order of precedence: an image stays in the first that has it
MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Splits:
    """Images per split, each uint8 n×C×H×W, in the order of `SPLITS`."""

    images: dict[str, Bytes]
    labels: dict[str, Labels] | None  # n a split, indices into `classes`
    classes: tuple[str, ...] | None  # names; with `labels` or not at all
    dropped: dict[str, int]  # images left out of a split because an earlier one has them


def write(folder: Path, splits: Splits, source: str, description: str) -> dict[str, Any]:
    """Write the arrays and the manifest into `folder`, and return the manifest."""
    for name in SPLITS:
        np.save(folder / f"{name}.npy", splits.images[name], allow_pickle=False)
        if splits.labels is not None:
            np.save(folder / f"{name}_labels.npy", splits.labels[name], allow_pickle=False)
    manifest = {"source": source, "description": description, **_facts(splits)}
    write_json(folder / MANIFEST, manifest)
    return manifest


def _facts(splits: Splits) -> dict[str, Any]:
    digests = {name: _digest(splits.images[name]) for name in SPLITS}
    return {
        "shape": list(splits.images["train"].shape[1:]),
        "counts": {name: len(splits.images[name]) for name in SPLITS},
        "duplicates_dropped": splits.dropped,
        "classes": None if splits.classes is None else list(splits.classes),
        "digests": digests,
        "digest": hashlib.sha256("".join(digests.values()).encode()).hexdigest(),
    }


def _digest(images: Bytes) -> str:
    state = hashlib.sha256(f"{images.dtype.str} {images.shape} ".encode())
    state.update(np.ascontiguousarray(images).data)
    return state.hexdigest()


def read_split(folder: Path, split: str) -> Bytes:
    """The images of a split, uint8 n×C×H×W, mapped from disk: read-only, and in memory only where they are used.

    Raises:
        InputError: `split` is not one of `SPLITS`, or `folder` does not hold a prepared data set.
    """
    return _read(folder, split, suffix="")


def read_classes(folder: Path) -> list[str] | None:
    """The names that labels are indices into, or None where the source has no labels.

    Raises:
        InputError: `folder` does not hold a prepared data set.
    """
    classes: list[str] | None = read_manifest(folder)["classes"]
    return classes


def read_labels(folder: Path, split: str) -> Labels | None:
    """The labels of a split, int64 n, indices into `read_classes`, or None where the source has none.

    Raises:
        InputError: `split` is not one of `SPLITS`, or `folder` does not hold a prepared data set.
    """
    return _read(folder, split, suffix="_labels") if read_classes(folder) is not None else None


def _read(folder: Path, split: str, suffix: str) -> Array:
    if split not in SPLITS:
        raise InputError(f"a split must be one of {', '.join(SPLITS)}, but got {split!r}")
    _require(folder)
    return read_npy(folder / f"{split}{suffix}.npy", mapped=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write` said of the data set: source, shape [C, H, W], counts, classes, digests, dropped duplicates.

    Raises:
        InputError: `folder` does not hold a prepared data set.
    """
    _require(folder)
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} must be JSON, but: {error}") from None
    if not isinstance(manifest, dict) or "classes" not in manifest:
        raise InputError(f"{path} must be what the stage prepare wrote, but holds {str(manifest)[:80]!r}")
    return manifest


def _require(folder: Path) -> None:
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} must hold a prepared data set, but has no {MANIFEST}: run the stage prepare")
