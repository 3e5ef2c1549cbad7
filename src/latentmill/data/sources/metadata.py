"""What files beside images say of them: metadata.csv, .jsonl and .parquet, and WebDataset's .cls, .json and .txt."""

import csv
import io
import json
import posixpath
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from latentmill.data.collection import UnreadableError
from latentmill.errors import InputError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"  # the column of a metadata file that names the image
LABEL_COLUMNS = ("label", "class", "category", "cls")  # used as labels where data.label is auto
SIDECARS = (".cls", ".json", ".txt")
Read = Callable[[str], bytes]
Rows = dict[str, dict[str, Any]]  # path of an image -> its columns


class Sidecars(NamedTuple):
    """What the files beside images say."""

    rows: Rows
    used: set[str]  # the paths of those files
    damaged: dict[str, str]  # path of an image -> what is wrong with a file beside it


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
    """The rows of all metadata files, by the paths of the images that they name, as `same_name` has them.

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
            image = same_name(posixpath.normpath(posixpath.join(posixpath.dirname(path), name)))
            if rows.setdefault(image, row) != row:
                raise InputError(f"{where}: each image must have one row, but {path} has several of {image}")
    return rows


def same_name(path: str) -> str:
    """One spelling of letters with marks, of which systems have two."""
    return unicodedata.normalize("NFC", path)


def sidecar_rows(paths: list[str], read: Read, is_image: Callable[[str], bool]) -> Sidecars:
    """What WebDataset's files beside each image say; a damaged one is listed, and drops only its own sample."""
    by_key: dict[str, list[str]] = {}
    for path in paths:
        by_key.setdefault(_key(path), []).append(path)
    found = Sidecars({}, set(), {})
    for together in by_key.values():
        images = [path for path in together if is_image(path)]
        others = [path for path in together if path.endswith(SIDECARS)]
        if images and others:
            found.used.update(others)
            try:
                columns = {key: value for path in others for key, value in _columns(path, read(path)).items()}
                found.rows.update(dict.fromkeys(map(same_name, images), columns))
            except UnreadableError as error:
                found.damaged.update(dict.fromkeys(images, str(error)))
    return found


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


def _columns(path: str, content: bytes) -> dict[str, Any]:
    """Raises: UnreadableError: it is no text, or no JSON where it ends in .json."""
    try:
        text = content.decode("utf-8-sig").strip()
        if path.endswith(".json"):
            found = json.loads(text)
            return found if isinstance(found, dict) else {}
        return {path.rpartition(".")[2]: text}
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.endswith(".json") else "UTF-8 text"
        raise UnreadableError(f"the file beside it is no {kind}: {path}: {error}") from None
