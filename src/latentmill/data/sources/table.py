"""Tables with a column of images: Parquet files, and data sets that Hugging Face's `save_to_disk` wrote (Arrow).

An image is its bytes, a struct of `bytes` and `path` as Hugging Face has it, or the path of a file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Files, Item, Locator, UnreadableError
from latentmill.data.sources import cells
from latentmill.data.sources.folder import read_file
from latentmill.data.sources.metadata import LABEL_COLUMNS, as_text
from latentmill.data.sources.paths import is_file, required_path
from latentmill.data.sources.tree import SPLIT_FOLDERS
from latentmill.errors import InputError

SUFFIXES = (".parquet", ".arrow")
Names = list[str | None]


def files(config: DataConfig) -> list[Path]:
    """The files of the table, in order, and those that its paths name.

    Raises:
        InputError: there are none.
    """
    tables = _tables(config)
    return tables + [path for table in tables for path in _named_files(table, config) if is_file(path)]


def load(config: DataConfig) -> Collection:
    """The images of all rows.

    Raises:
        InputError: a file is missing or damaged, or has no such column as `config` names.
    """
    tables, root = _tables(config), _root(config)
    items, locators = [], []
    for path in tables:
        labels, groups = _names(path, config)
        factors = _factors(path, config.factors)
        split, name = _split(path, config), path.relative_to(root) if path != root else path.name
        for row, (label, group, each) in enumerate(zip(labels, groups, factors, strict=True)):
            items.append(Item(f"{name} row {row}", label, group, split, factors=each or None))
            locators.append((str(path), config.image, row))
    in_order = any(path.suffix == ".parquet" for path in tables)  # an Arrow file is read at any place
    return Files(f"images of the user, from {root}", items, [], locators, read=read_cell, in_order=in_order)


def read_cell(locator: Locator) -> bytes:
    """The bytes of the image in (file, column, row).

    Raises:
        UnreadableError: the cell is empty, its part of the file is damaged, or the file that it names can't be read.
    """
    path, column, row = locator
    try:
        value = cells.cell(path, column, row)
    except cells.DAMAGE as error:
        raise UnreadableError(f"unreadable in the table: {' '.join(str(error).split())}") from None
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value:
        return read_file(str(Path(path).parent / value))
    if not isinstance(value, bytes):
        raise UnreadableError("an empty cell")
    return value


def _root(config: DataConfig) -> Path:
    return required_path(config, "a .parquet file, or a folder of them or of a saved data set")


def _tables(config: DataConfig) -> list[Path]:
    path = _root(config)
    if path.is_dir():
        found = sorted(each for suffix in SUFFIXES for each in path.rglob(f"*{suffix}"))
        found = [each for each in found if not each.name.startswith(("cache-", "."))]  # what `map` left behind
    else:
        found = [path] if path.suffix in SUFFIXES else []
    if not found or not all(each.is_file() for each in found):
        reason = "has none" if path.exists() else "does not exist"
        rule = f"data.path must be or hold {' or '.join(SUFFIXES)} files for the source table"
        raise InputError(f"{rule}, but {path} {reason}")
    return found


def _split(path: Path, config: DataConfig) -> str | None:
    """The split that a table has by the name of its folder, or its own: train-00000-of-00001.parquet."""
    if config.splits != "folders":
        return None
    for name in (path.name.partition("-")[0].partition(".")[0], path.parent.name):
        if name in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[name]
    rule = "data.splits: folders needs every table in a folder train/, val/ or test/, or called so"
    raise InputError(f"{rule}, but got {path}")


def _names(path: Path, config: DataConfig) -> tuple[Names, Names]:
    """The label and the group of each row."""
    schema = cells.schema(path)
    for key in ("image", "label", "group"):
        _require_column(getattr(config, key), key, schema, path)
    _require_images(schema.field(config.image).type, config.image, path)
    label = config.label
    if label == "auto":
        label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    return _column(path, label, schema), _column(path, config.group, schema)


def _factors(path: Path, names: list[str]) -> list[dict[str, str | None]]:
    """The value of each factor, for each row."""
    schema = cells.schema(path)
    for name in names:
        _require_column(name, "factors", schema, path)
    columns = [_column(path, name, schema) for name in names]
    rows = zip(*columns, strict=True) if names else [()] * cells.count(path)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _require_column(column: str | int | None, key: str, schema: pa.Schema, path: Path) -> None:
    if isinstance(column, int):
        raise InputError(f"data.{key} must be a column for the source table, but got {column}")
    if column not in (None, "auto") and column not in schema.names:
        known = ", ".join(schema.names)
        raise InputError(f"data.{key} must be a column of {path}, but {column!r} is none of {known}")


def _require_images(kind: pa.DataType, name: str, path: Path) -> None:
    """Raises: InputError: the column can't hold encoded images."""
    if not (_is_bytes(kind) or _is_text(kind) or _parts(kind) & {"bytes", "path"}):
        rule = "data.image must be a column of bytes, of paths, or of both as Hugging Face has it"
        raise InputError(f"{rule}, but {name} of {path} is {str(kind)[:80]}")


def _column(path: Path, name: str | int | None, schema: pa.Schema) -> Names:
    if not isinstance(name, str):
        return [None] * cells.count(path)
    classes = _class_names(schema).get(name)
    if classes is None:
        return [as_text(value) for value in cells.column(path, name)]
    known = dict(enumerate(classes))
    return [known.get(value) for value in cells.column(path, name)]  # -1 is no class


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Of each column that Hugging Face's metadata calls a ClassLabel."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            name: list(map(str, each["names"])) for name, each in features.items() if each.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError, TypeError):  # other metadata than Hugging Face's
        return {}


def _named_files(path: Path, config: DataConfig) -> Iterator[Path]:
    """The files that the images of a table are, where it has paths."""
    schema = cells.schema(path)
    if config.image not in schema.names:
        return
    kind = schema.field(config.image).type
    if _is_text(kind) or "path" in _parts(kind):
        part = None if _is_text(kind) else "path"
        yield from (path.parent / name for name in cells.column(path, config.image, part) if name)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(_content(kind)) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(_content(kind)) for test in (types.is_string, types.is_large_string, types.is_string_view))


def _content(kind: Any) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _parts(kind: Any) -> set[str]:
    return {field.name for field in kind} if pa.types.is_struct(kind) else set()
