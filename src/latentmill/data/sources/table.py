"""Tables with a column of images: Parquet files, and data sets that Hugging Face's `save_to_disk` wrote (Arrow).

An image is its bytes, a struct of `bytes` and `path` as Hugging Face has it, or the path of a file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Files, Item, Locator, UnreadableError
from latentmill.data.sources.folder import read_file
from latentmill.data.sources.paths import required_path
from latentmill.data.sources.tree import LABEL_COLUMNS, SPLIT_FOLDERS
from latentmill.errors import InputError

SUFFIXES = (".parquet", ".arrow")
DAMAGE = (OSError, ValueError, NotImplementedError)  # what pyarrow's errors are
ROWS = 256  # of a Parquet file, decoded at a time


def files(config: DataConfig) -> list[Path]:
    """The files of the table, in order, and those that its paths name.

    Raises:
        InputError: there are none.
    """
    tables = _tables(config)
    named = [Path(path) for table in tables for path in _paths(table, config)]
    return tables + [path for path in named if path.is_file()]


def load(config: DataConfig) -> Collection:
    """The images of all rows.

    Raises:
        InputError: a file is missing or damaged, or has no such column as `config` names.
    """
    items, locators = [], []
    for path in _tables(config):
        names = _columns(path, config)
        for row, (label, group) in enumerate(_labels(path, names)):
            items.append(Item(f"{path.name} row {row}", label, group, _split(path, config)))
            locators.append((str(path), config.image, row))
    return Files(f"images of the user, from {config.path}", items, [], locators, read=read_cell, in_order=True)


def read_cell(locator: Locator) -> bytes:
    """The bytes of the image in (file, column, row).

    Raises:
        UnreadableError: the cell is empty, its part of the file is damaged, or the file that it names can't be read.
    """
    path, column, row = locator
    try:
        value = _cells(path, column)[row]
    except (*DAMAGE, StopIteration) as error:
        raise UnreadableError(f"unreadable in the table: {' '.join(str(error).split())}") from None
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return read_file(str(Path(path).parent / value))
    if not isinstance(value, bytes):
        raise UnreadableError("an empty cell")
    return value


class _Parquet:
    """The cells of a column of a Parquet file, cheap in ascending order: a few rows are held at a time."""

    def __init__(self, path: str, column: str) -> None:
        self.file, self.column = pq.ParquetFile(path, memory_map=True), column
        self._restart()

    def _restart(self) -> None:
        self.first, self.cells = 0, list[Any]()
        self.batches = self.file.iter_batches(ROWS, columns=[self.column])

    def __getitem__(self, row: int) -> Any:
        if row < self.first:
            self._restart()
        while row >= self.first + len(self.cells):
            self.first += len(self.cells)
            self.cells = next(self.batches).column(0).to_pylist()
        return self.cells[row - self.first]


class _Arrow:
    """The same of an Arrow file, which is mapped into memory."""

    def __init__(self, path: str, column: str) -> None:
        self.batches = [batch.column(column) for batch in _arrow_batches(path)]
        self.starts = np.cumsum([0, *map(len, self.batches)])

    def __getitem__(self, row: int) -> Any:
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.batches[index][row - int(self.starts[index])].as_py()


@lru_cache(maxsize=1)
def _cells(path: str, column: str) -> _Parquet | _Arrow:
    return _Parquet(path, column) if path.endswith(".parquet") else _Arrow(path, column)


def _arrow_batches(path: str) -> list[pa.RecordBatch]:
    source = pa.memory_map(path)
    try:
        return list(pa.ipc.open_stream(source))  # what Hugging Face writes
    except pa.ArrowInvalid:
        reader = pa.ipc.open_file(pa.memory_map(path))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]


def _tables(config: DataConfig) -> list[Path]:
    path = required_path(config, "a .parquet file, or a folder of them or of a saved data set")
    if path.is_dir():
        found = sorted(each for suffix in SUFFIXES for each in path.rglob(f"*{suffix}"))
        found = [each for each in found if not each.name.startswith(("cache-", "."))]  # what `map` left behind
    else:
        found = [path] if path.suffix in SUFFIXES else []
    if not found or not all(each.is_file() for each in found):
        reason = "has none" if path.exists() else "does not exist"
        raise InputError(
            f"data.path must be or hold {' or '.join(SUFFIXES)} files for the source table, but {path} {reason}"
        )
    return found


def _split(path: Path, config: DataConfig) -> str | None:
    """The split that a saved data set has in a folder of its name."""
    return SPLIT_FOLDERS.get(path.parent.name) if config.splits == "folders" else None


@dataclass(frozen=True)
class _Columns:
    """Which columns there are, and the names of classes where the table's metadata has them."""

    names: list[str]
    classes: dict[str, list[str]]  # by column
    label: str | None
    group: str | None


def _columns(path: Path, config: DataConfig) -> _Columns:
    try:
        schema = pq.read_schema(path) if path.suffix == ".parquet" else _arrow_batches(str(path))[0].schema
    except (*DAMAGE, IndexError) as error:
        raise InputError(
            f"{path} must be a whole {path.suffix} file with rows, but: {' '.join(str(error).split())}"
        ) from None
    names = list(schema.names)
    for key in ("image", "label", "group"):
        asked = getattr(config, key)
        if isinstance(asked, int):
            raise InputError(f"data.{key} must be a column for the source table, but got {asked}")
        if asked not in (None, "auto") and asked not in names:
            raise InputError(f"data.{key} must be a column of {path}, but {asked!r} is none of {', '.join(names)}")
    label = next((name for name in LABEL_COLUMNS if name in names), None) if config.label == "auto" else config.label
    assert not isinstance(label, int)
    assert not isinstance(config.group, int)
    return _Columns(names, _class_names(schema), label, config.group)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Of each column that Hugging Face's metadata calls a ClassLabel."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {name: each["names"] for name, each in features.items() if each.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError, TypeError):  # other metadata than Hugging Face's
        return {}


def _labels(path: Path, columns: _Columns) -> Iterator[tuple[str | None, str | None]]:
    """The label and the group of each row."""
    asked = [name for name in (columns.label, columns.group) if name is not None]
    known = {name: _read_column(path, name, columns.classes.get(name)) for name in asked}
    if not asked:
        known = {"": [None] * _count(path)}
    labels, groups = (known.get(name or "") for name in (columns.label, columns.group))
    count = len(next(iter(known.values())))
    return zip(labels or [None] * count, groups or [None] * count, strict=True)


def _read_column(path: Path, name: str, classes: list[str] | None) -> list[str | None]:
    try:
        if path.suffix == ".parquet":
            values = pq.read_table(path, columns=[name]).column(0).to_pylist()
        else:
            values = [cell for batch in _arrow_batches(str(path)) for cell in batch.column(name).to_pylist()]
    except DAMAGE as error:
        raise InputError(f"{path}: the column {name} must be readable, but: {' '.join(str(error).split())}") from None
    if classes is not None:
        return [classes[value] if isinstance(value, int) and 0 <= value < len(classes) else None for value in values]
    return [None if value is None else str(value) for value in values]


def _count(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(len(batch) for batch in _arrow_batches(str(path)))


def _paths(path: Path, config: DataConfig) -> list[Path]:
    """The files that the images of a table are, where it has paths alone."""
    columns = _columns(path, config)
    schema = pq.read_schema(path) if path.suffix == ".parquet" else _arrow_batches(str(path))[0].schema
    if not pa.types.is_string(schema.field(config.image).type) or config.image not in columns.names:
        return []
    return [path.parent / name for name in _read_column(path, config.image, None) if name]
