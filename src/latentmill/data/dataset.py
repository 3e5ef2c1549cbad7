"""The prepared data set: three splits on disk, as plain arrays with a manifest.

The digest in the manifest names the content: equal digests, equal images and labels in equal order.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentmill.data.collection import Array, Bytes, OnProgress
from latentmill.data.numpy_files import read_npy
from latentmill.errors import InputError

Labels = npt.NDArray[np.int64]

SPLITS = ("train", "val", "test")  # in the order of precedence: an image stays in the first that has it
TRAINING = ("train", "val")  # those that training reads
MANIFEST, DROPPED, CONTACT_SHEET = "manifest.json", "dropped.csv", "contact_sheet.png"
GROUPS = "train_groups.npy"
STORED = ".data-"  # begins the name of a data set in a trial store
BLOCK = 1_000  # images written or read at a time
AGAIN = "run `dvc repro -f prepare`"


def write_images(
    path: Path, images: Bytes, rows: npt.NDArray[np.int64], channels: int, progress: OnProgress = lambda *of: None
) -> str:
    """Write the first `channels` of these rows of M×C×H×W as a .npy file; the digest of its content.

    `progress` is called with what is written, the number so far, and the total.
    """
    shape = (len(rows), channels, *images.shape[2:])
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    state = _begun(written)
    for start in range(0, len(rows), BLOCK):
        block = np.ascontiguousarray(images[rows[start : start + BLOCK], :channels])
        written[start : start + BLOCK] = block
        state.update(block.data)
        progress(f"images of {path.stem} written", start + len(block), len(rows))
    written.flush()
    return state.hexdigest()


def write_labels(path: Path, labels: Labels) -> str:
    """Write the labels of a split, indices into the classes of the manifest; the digest of its content."""
    np.save(path, labels, allow_pickle=False)
    return content_digest(labels)


def write_groups(folder: Path, groups: Labels) -> None:
    """Write which training images belong together: those of an equal number."""
    np.save(folder / GROUPS, groups, allow_pickle=False)


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


def read_groups(folder: Path) -> Labels | None:
    """The number of each training image's group, int64 n, or None where the source has no groups.

    Raises:
        InputError: `folder` does not hold a prepared data set.
    """
    _require(folder)
    return read_npy(folder / GROUPS) if (folder / GROUPS).exists() else None


def combined_digest(digests: Mapping[str, str], classes: Sequence[str] | None) -> str:
    """The digest of a data set with these files and so many classes; their names train nothing."""
    count = "" if classes is None else f" {len(classes)}"
    return hashlib.sha256(f"{''.join(digests.values())}{count}".encode()).hexdigest()


def stored_as(digest: str) -> str:
    """The folder of a data set in a trial store, which is sent to a cluster; hidden, because it is no trial."""
    return f"{STORED}{digest[:16]}"


def intact_digest(folder: Path, splits: Sequence[str] = SPLITS) -> str:
    """The digest of a data set, once its images and labels have been read and have the digests of the manifest.

    Raises:
        InputError: `folder` does not hold a prepared data set, or one of these `splits` is not as it was written.
    """
    manifest, path = read_manifest(folder), folder / MANIFEST
    digests = manifest.get("digests")
    if not isinstance(digests, dict) or manifest.get("digest") != combined_digest(digests, manifest["classes"]):
        raise InputError(f"{path} must have the digest of what it says, but has another: {AGAIN}")
    for split in splits:
        _require_intact(folder, split, digests)
        if manifest["classes"] is not None:
            _require_intact(folder, f"{split}_labels", digests)
    return str(manifest["digest"])


def _require_intact(folder: Path, name: str, digests: dict[str, str]) -> None:
    path = folder / f"{name}.npy"
    if content_digest(read_npy(path)) != digests.get(name):
        raise InputError(f"{path} must have the digest that {MANIFEST} names, but has another: {AGAIN}")


def content_digest(array: Array) -> str:
    """The digest of an array's type, shape and values, as the manifest has it of each file."""
    state = _begun(array)
    for start in range(0, len(array) if array.ndim else 0, BLOCK):
        state.update(array[start : start + BLOCK].tobytes())
    return state.hexdigest()


def _begun(array: Array) -> "hashlib._Hash":
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())


def _read(folder: Path, split: str, suffix: str) -> Array:
    if split not in SPLITS:
        raise InputError(f"a split must be one of {', '.join(SPLITS)}, but got {split!r}")
    _require(folder)
    return read_npy(folder / f"{split}{suffix}.npy")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest that `prepare` wrote: source, shape [C, H, W], counts, classes, digests, dropped duplicates.

    Raises:
        InputError: `folder` does not hold a prepared data set.
    """
    _require(folder)
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON, but: {error}") from None
    if not isinstance(manifest, dict) or "classes" not in manifest:
        raise InputError(f"{path} must be what the stage prepare wrote, but holds {str(manifest)[:80]!r}")
    return manifest


def _require(folder: Path) -> None:
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} must hold a prepared data set, but has no {MANIFEST}: run `dvc repro prepare`")
