"""A tree of image files, in a folder or an archive: which files are images, and what their places and sidecars say.

Labels come from a metadata file beside the images, as Hugging Face's imagefolder has it, from files of the same name
(WebDataset's .cls and .json), or from the folders that images lie in.
"""

import posixpath
from collections import Counter
from dataclasses import dataclass

from latentmill.config import DataConfig
from latentmill.data.collection import IMAGE_SUFFIXES, Dropped, Item
from latentmill.data.sources.metadata import (
    LABEL_COLUMNS,
    METADATA,
    Read,
    Rows,
    as_text,
    metadata_rows,
    same_name,
    sidecar_rows,
)
from latentmill.data.sources.paths import printable
from latentmill.errors import InputError

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Found:
    """The images of a tree, each with its path, and what was left out."""

    items: list[Item]
    paths: list[str]
    dropped: list[Dropped]


@dataclass(frozen=True)
class _Place:
    """Where a file lies that may be an image."""

    path: str
    below: str  # the same, below the folder of its split
    split: str | None


def images(paths: list[str], read: Read, config: DataConfig, where: str, sidecars: bool = False) -> Found:
    """Sort `paths`, relative to the tree's root, into images and others; `read` gives the bytes of a small file.

    `sidecars` looks for files beside each image that have its name and end in .cls, .json or .txt.

    Raises:
        InputError: a metadata file is damaged, or the tree lacks a column or folder level of `config`.
    """
    dropped: list[Dropped] = []
    visible = [path for path in sorted(paths) if _is_visible(path, dropped)]
    metadata = [path for path in visible if posixpath.basename(path) in METADATA]
    rows = metadata_rows(metadata, read, where)
    beside = sidecar_rows(visible if sidecars else [], read, is_named_image)
    rows |= beside.rows
    unused = beside.used.union(metadata)
    placed = [_placed(path, config) for path in visible if path not in unused]
    dropped += [
        Dropped(each.path, "outside of train/, val/ and test/", counts=is_named_image(each.path))
        for each in placed
        if not each.below
    ]
    names = _Names([each for each in placed if each.below], rows, config, where)
    items, found = [], []
    for each in names.placed:
        named = is_named_image(each.path)
        reason = beside.damaged.get(each.path) or _without_row(each.path, metadata, rows)
        if named and reason:
            dropped.append(Dropped(each.path, reason))
            continue
        label, group = names.of(each) if named else (None, None)
        items.append(Item(each.path, label, group, each.split, named))
        found.append(each.path)
    missing = sorted(rows.keys() - set(map(same_name, paths)))
    dropped += [Dropped(printable(path), "named in the metadata, but missing") for path in missing]
    return Found(items, found, dropped)


def _without_row(path: str, metadata: list[str], rows: Rows) -> str | None:
    """That no row names the image, though a metadata file lies in its folder or in one above."""
    if same_name(path) in rows:
        return None
    above = [each for each in metadata if path.startswith(each.removesuffix(posixpath.basename(each)))]
    return f"no row in {max(above, key=len)}" if above else None


class _Names:
    """How images get the names of their class and group, decided once for the whole tree."""

    def __init__(self, placed: list[_Place], rows: Rows, config: DataConfig, where: str) -> None:
        self.placed, self.rows, self.where, self.group = placed, rows, where, config.group
        self.columns = dict.fromkeys(key for row in rows.values() for key in row)
        self.label = self._automatic() if config.label == "auto" else config.label
        for key, column in (("label", self.label), ("group", self.group)):
            if isinstance(column, str) and column not in self.columns:
                known = ", ".join(map(str, self.columns)) or "there is none"
                raise InputError(f"data.{key} must be a column of the metadata of {where}, but got {column!r}: {known}")

    def of(self, place: _Place) -> tuple[str | None, str | None]:
        """The label and the group."""
        return self._name(self.label, place, "data.label"), self._name(self.group, place, "data.group")

    def _automatic(self) -> str | int | None:
        """A column that is called so, or 0: the folder that an image lies in, where most lie in several."""
        column = next((name for name in LABEL_COLUMNS if name in self.columns), None)
        if column is not None:
            return column
        parents = Counter(posixpath.dirname(each.below) for each in self.placed if is_named_image(each.path))
        strays = parents.pop("", 0)  # such as a logo: dropped later, because it has no label, where they are few
        return 0 if len(parents) > 1 and strays < parents.total() else None

    def _name(self, column: str | int | None, place: _Place, key: str) -> str | None:
        """Of a column of the image's row, or of its folder at a level, 1 being the first below the root."""
        if column is None:
            return None
        if isinstance(column, str):
            return as_text(self.rows.get(same_name(place.path), {}).get(column))
        folders = place.below.split("/")[:-1]
        if column == 0:
            return folders[-1] if folders else None
        if column > len(folders):
            needs = f"{key}: {column} needs images {column} folders deep in {self.where}"
            raise InputError(f"{needs}, but got {place.path}")
        return folders[column - 1]


def is_named_image(path: str) -> bool:
    """Whether the name says that the file is an image."""
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def _is_visible(path: str, dropped: list[Dropped]) -> bool:
    """Whether the file may hold an image: not one that an operating system hides or leaves behind."""
    parts = path.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] == "Thumbs.db"
    if hidden:
        dropped.append(Dropped(path, "a hidden file", counts=False))
    return not hidden


def _placed(path: str, config: DataConfig) -> _Place:
    """`below` is empty where splits are folders and the file lies in none."""
    if config.splits != "folders":
        return _Place(path, path, None)
    first, _, rest = path.partition("/")
    return _Place(path, rest, SPLIT_FOLDERS[first]) if first in SPLIT_FOLDERS else _Place(path, "", None)
