"""What files beside images say of them: metadata.csv, .jsonl and .parquet, and WebDataset's .cls, .json and .txt."""

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterable
from typing import Any

from latentmill.errors import InputError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"  # the column of a metadata file that names the image
LABEL_COLUMNS = ("label", "class", "category", "cls")  # taken for labels where data.label is auto
SIDECARS = (".cls", ".json", ".txt")
Read = Callable[[str], bytes]
Rows = dict[str, dict[str, Any]]  # path of an image -> its columns


def as_text(value: Any) -> str | None:
    """A cell as the name of a class or group: None where it is empty, whole numbers without a point."""
    if value is None or value == "" or value != value:  # NaN
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode(errors="replace").decode()  # JSON may escape half a character


def metadata_rows(paths: Iterable[str], read: Read, where: str) -> Rows:
    """The rows of all metadata files, by the paths of the images that they name, relative to the tree's root.

    Raises:
        InputError: a file is damaged, a row names no image, or two rows say different things of one.
    """
    rows: Rows = {}
    for path in paths:
        for row in _table(path, read(path), where):
            name = row.pop(FILE_NAME, None)
            if not isinstance(name, str) or not name or None in row:
                found = str(row)[:80]
                rule = f"each row of {path} must have a {FILE_NAME}, and no more cells than the header"
                raise InputError(f"{where}: {rule}, but got {name!r}: {found}")
            image = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            if rows.setdefault(image, row) != row:
                raise InputError(f"{where}: each image must have one row, but {path} has several of {image}")
    return rows


def sidecar_rows(paths: list[str], read: Read, where: str, is_image: Callable[[str], bool]) -> tuple[Rows, set[str]]:
    """The columns that WebDataset's files beside each image give, and the paths of those files.

    Raises:
        InputError: one is no text, or no JSON where it ends in .json.
    """
    by_key: dict[str, list[str]] = {}
    for path in paths:
        by_key.setdefault(_key(path), []).append(path)
    rows: Rows = {}
    used = set[str]()
    for together in by_key.values():
        images = [path for path in together if is_image(path)]
        others = [path for path in together if path.endswith(SIDECARS)]
        if images and others:
            columns: dict[str, Any] = {}
            for path in others:
                columns |= _columns(path, read(path), where)
            rows |= dict.fromkeys(images, columns)
            used.update(others)
    return rows, used


def _table(path: str, content: bytes, where: str) -> list[dict[str, Any]]:
    try:
        if path.endswith(".csv"):
            return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        if path.endswith(".jsonl"):
            lines = content.decode("utf-8-sig").split("\n")  # not splitlines: text may hold other line breaks
            rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("each line must be an object")
            return rows
        import pyarrow.parquet  # here, because few trees have such a file and it loads slowly

        table: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
        return table
    except (ValueError, csv.Error, OSError, RecursionError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        found = " ".join(str(error).split())
        raise InputError(f"{where}: {path} must be a readable {path.rpartition('.')[2]} file, but: {found}") from None


def _key(path: str) -> str:
    """What files of one sample share: the path up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _columns(path: str, content: bytes, where: str) -> dict[str, Any]:
    try:
        text = content.decode("utf-8-sig").strip()
        if path.endswith(".json"):
            found = json.loads(text)
            return found if isinstance(found, dict) else {}
        return {path.rpartition(".")[2]: text}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {path} must be UTF-8 text, JSON where it ends in .json, but: {error}") from None
