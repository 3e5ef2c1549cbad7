"""The columns and cells of one file of a table, Parquet or Arrow, read with no more in memory than is needed."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentmill.errors import InputError

DAMAGE = (OSError, ValueError, NotImplementedError, KeyError)  # what pyarrow's errors are
ROWS = 32  # of a Parquet file, decoded at a time: images may have megabytes each


def schema(path: Path) -> pa.Schema:
    """What columns there are.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return pq.read_schema(path) if path.suffix == ".parquet" else _arrow(str(path))[0]
    except DAMAGE as error:
        raise InputError(f"{path} must be a whole {path.suffix} file, but: {_words(error)}") from None


def count(path: Path) -> int:
    """How many rows there are."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(len(batch) for batch in _arrow(str(path))[1])


def column(path: Path, name: str, part: str | None = None) -> Iterator[Any]:
    """All cells of a column, or of a part of one of several parts.

    Raises:
        InputError: it can't be read.
    """
    try:
        for piece in _pieces(path, name, part):
            yield from (piece.field(part) if part else piece).to_pylist()
    except DAMAGE as error:
        raise InputError(f"{path}: the column {name} must be readable, but: {_words(error)}") from None


def cell(path: str, name: str, row: int) -> Any:
    """One cell; cheap in ascending order.

    Raises:
        OSError, ValueError: its part of the file is damaged.
    """
    return _cells(path, name)[row]


def _pieces(path: Path, name: str, part: str | None) -> Iterator[Any]:
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path, memory_map=True).iter_batches(columns=[f"{name}.{part}" if part else name]):
            yield batch.column(0)
    else:
        yield from (batch.column(name) for batch in _arrow(str(path))[1])


class _Parquet:
    """The cells of a column of a Parquet file: a few rows are held at a time."""

    def __init__(self, path: str, name: str) -> None:
        self.file, self.name, self.group = pq.ParquetFile(path, memory_map=True), name, -1
        metadata = self.file.metadata
        lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self.starts = np.cumsum([0, *lengths])
        self.first, self.cells = 0, list[Any]()

    def __getitem__(self, row: int) -> Any:
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        if group != self.group or row < self.first:
            self.group, self.first, self.cells = group, int(self.starts[group]), []
            self.batches = self.file.iter_batches(ROWS, row_groups=[group], columns=[self.name])
        while row >= self.first + len(self.cells):
            self.first, self.cells = self.first + len(self.cells), []  # none is left where the next can't be read
            batch = next(self.batches, None)
            if batch is None:
                raise ValueError("an earlier part of the rows that are stored together is damaged")
            self.cells = batch.column(0).to_pylist()
        return self.cells[row - self.first]


class _Arrow:
    """The same of an Arrow file, which is mapped into memory."""

    def __init__(self, path: str, name: str) -> None:
        self.batches = [batch.column(name) for batch in _arrow(path)[1]]
        self.starts = np.cumsum([0, *map(len, self.batches)])

    def __getitem__(self, row: int) -> Any:
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.batches[index][row - int(self.starts[index])].as_py()


@lru_cache(maxsize=4)
def _cells(path: str, name: str) -> _Parquet | _Arrow:
    return _Parquet(path, name) if path.endswith(".parquet") else _Arrow(path, name)


def _arrow(path: str) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    try:
        stream = pa.ipc.open_stream(pa.memory_map(path))  # what Hugging Face writes
        return stream.schema, list(stream)
    except pa.ArrowInvalid:
        file = pa.ipc.open_file(pa.memory_map(path))
        return file.schema, [file.get_batch(index) for index in range(file.num_record_batches)]


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())
