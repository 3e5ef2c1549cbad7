"""A tree of image files, in a folder or an archive: which files are images, and what their places and sidecars say.

Labels come from a metadata file beside the images, as Hugging Face's imagefolder has it, from files of the same name
(WebDataset's .cls and .json), or from the folders that images lie in.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from latentmill.config import DataConfig
from latentmill.data.collection import IMAGE_SUFFIXES, Dropped, Item
from latentmill.errors import InputError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"  # the column of a metadata file that names the image
LABEL_COLUMNS = ("label", "class", "category", "cls")  # taken for labels where data.label is auto
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Read = Callable[[str], bytes]
Rows = dict[str, dict[str, Any]]  # path of an image -> its columns


@dataclass(frozen=True)
class Found:
    """The images of a tree, each with its path, and what was left out."""

    items: list[Item]
    paths: list[str]
    dropped: list[Dropped]


def images(paths: list[str], read: Read, config: DataConfig, where: str, sidecars: bool = False) -> Found:
    """Sort `paths`, relative to the tree's root, into images and others; `read` gives the bytes of a small file.

    `sidecars` looks for files beside each image that have its name and end in .cls or .json.

    Raises:
        InputError: a metadata file is damaged, or the tree has no such column or folder level as `config` asks for.
    """
    dropped: list[Dropped] = []
    metadata = [path for path in paths if PurePosixPath(path).name in METADATA]
    rows, beside = _metadata(metadata, read, where), set[str]()
    if sidecars:
        known, beside = _sidecars(paths, read, where)
        rows |= known
    candidates = [path for path in sorted(set(paths) - set(metadata) - beside) if _is_visible(path, dropped)]
    placed = [(path, *_split(path, config, dropped)) for path in candidates]
    kept = [(path, rest, split) for path, rest, split in placed if rest is not None]
    labels = _Labels(config, rows, [rest for path, rest, _ in kept if _is_named_image(path)], where)
    items, found = [], []
    for path, rest, split in kept:
        if metadata and path not in rows and _is_named_image(path):
            dropped.append(Dropped(path, f"no row in {metadata[0]}"))
            continue
        label, group = labels.label(path, rest), _part(config.group, path, rest, rows, "data.group", where)
        items.append(Item(path, label, group, split, _is_named_image(path)))
        found.append(path)
    there = set(paths)
    dropped += [Dropped(path, "named in the metadata, but missing") for path in rows if path not in there]
    return Found(items, found, dropped)


class _Labels:
    """How images get their class names, decided once for the whole tree."""

    def __init__(self, config: DataConfig, rows: Rows, images: list[str], where: str) -> None:
        """`images` are paths below the folders of splits."""
        self.asked, self.rows, self.where = config.label, rows, where
        columns = dict.fromkeys(key for row in rows.values() for key in row)
        if self.asked == "auto":
            self.asked = next((name for name in LABEL_COLUMNS if name in columns), None)
            parents = {str(PurePosixPath(path).parent) for path in images}
            if self.asked is None and len(parents) > 1 and "." not in parents:
                self.asked = 0  # the folder that an image lies in

    def label(self, path: str, rest: str) -> str | None:
        if self.asked == 0:
            return PurePosixPath(rest).parent.name or None
        return _part(self.asked, path, rest, self.rows, "data.label", self.where)


def _part(asked: str | int | None, path: str, rest: str, rows: Rows, key: str, where: str) -> str | None:
    """A column of the image's row, or the name of its folder at a level, 1 being the first below the root."""
    if asked is None or not _is_named_image(path):
        return None
    if isinstance(asked, str):
        row = rows.get(path, {})
        if asked not in row:
            known = ", ".join(sorted(row)) or "none"
            raise InputError(
                f"{key} must be a column of the metadata of {where}, but {asked!r} is none of {path}: {known}"
            )
        return str(row[asked])
    folders = PurePosixPath(rest).parts[:-1]
    if asked > len(folders):
        raise InputError(f"{key}: {asked} needs images {asked} folders deep in {where}, but got {path}")
    return folders[asked - 1]


def _is_named_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _is_visible(path: str, dropped: list[Dropped]) -> bool:
    """Whether the file may hold an image: not one that an operating system hides or leaves behind."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] == "Thumbs.db"
    if hidden:
        dropped.append(Dropped(path, "a hidden file", counts=False))
    return not hidden


def _split(path: str, config: DataConfig, dropped: list[Dropped]) -> tuple[str | None, str | None]:
    """The path below the folder that names its split, and the split; the path is None where it lies in none."""
    if config.splits != "folders":
        return path, None
    first, _, rest = path.partition("/")
    if rest and first in SPLIT_FOLDERS:
        return rest, SPLIT_FOLDERS[first]
    dropped.append(Dropped(path, "outside of train/, val/ and test/", counts=_is_named_image(path)))
    return None, None


def _metadata(paths: list[str], read: Read, where: str) -> Rows:
    rows: Rows = {}
    for path in paths:
        folder = PurePosixPath(path).parent
        for row in _table(path, read(path), where):
            name = row.pop(FILE_NAME, None)
            if not isinstance(name, str) or not name:
                raise InputError(f"{where}: each row of {path} must have a {FILE_NAME}, but got {str(row)[:80]}")
            rows[str(folder / name)] = row
    return rows


def _table(path: str, content: bytes, where: str) -> list[dict[str, Any]]:
    try:
        if path.endswith(".csv"):
            return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
        if path.endswith(".jsonl"):
            rows: list[dict[str, Any]] = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("each line must be an object")
            return rows
        import pyarrow.parquet  # here, because few trees have such a file and it loads slowly

        table: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
        return table
    except (ValueError, csv.Error, OSError, RecursionError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        found = " ".join(str(error).split())
        raise InputError(f"{where}: {path} must be a readable {path.rpartition('.')[2]} file, but: {found}") from None


def _sidecars(paths: list[str], read: Read, where: str) -> tuple[Rows, set[str]]:
    """The columns that WebDataset's files beside each image give, and the paths of those files."""
    by_key: dict[str, list[str]] = {}
    for path in paths:
        by_key.setdefault(_key(path), []).append(path)
    rows: Rows = {}
    used = set[str]()
    for together in by_key.values():
        images = [path for path in together if _is_named_image(path)]
        others = [path for path in together if path.endswith((".cls", ".json", ".txt"))]
        if images and others:
            columns: dict[str, Any] = {}
            for path in others:
                columns |= _columns(path, read(path), where)
            rows |= dict.fromkeys(images, columns)
            used.update(others)
    return rows, used


def _key(path: str) -> str:
    """What files of one sample share: the path up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _columns(path: str, content: bytes, where: str) -> dict[str, Any]:
    try:
        text = content.decode().strip()
        if path.endswith(".json"):
            found = json.loads(text)
            return found if isinstance(found, dict) else {}
        return {path.rpartition(".")[2]: text}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {path} must be UTF-8 text, JSON where it ends in .json, but: {error}") from None
