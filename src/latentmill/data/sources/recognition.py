"""Which source reads what a user names, by what lies there."""

from pathlib import Path

from latentmill.data.sources import cells
from latentmill.data.sources.archive import SUFFIXES as ARCHIVES
from latentmill.data.sources.metadata import METADATA
from latentmill.data.sources.paths import possible_path
from latentmill.data.sources.table import SUFFIXES as TABLES
from latentmill.data.sources.tree import is_named_image
from latentmill.errors import InputError

ARRAYS = (".npy", ".npz")
BUNDLED = ("fashion-mnist", "mnist-5k", "digits", "sprites")  # sources that need no path


def recognised(given: str) -> dict[str, str]:
    """`source` of the section `data`, and `path` where it needs one, of a path or the name of a bundled source.

    Raises:
        InputError: there is nothing, or nothing that a source reads.
    """
    path = possible_path(given)
    if given in BUNDLED and not path.exists():
        return {"source": given}
    return {"source": _source(path, given), "path": given}


def _source(path: Path, given: str) -> str:
    if path.is_dir():
        return "table" if _holds_images_in_tables(path) else "folder"
    by_suffix = dict.fromkeys(ARCHIVES, "archive") | dict.fromkeys(ARRAYS, "arrays") | dict.fromkeys(TABLES, "table")
    if path.suffix.lower() not in by_suffix:
        rule = f"there must be a folder, or a file that ends in {', '.join(by_suffix)}, or one of {', '.join(BUNDLED)}"
        got = "but there is a file of another kind" if path.exists() else "but there is nothing"
        raise InputError(f"{rule}, {got}: {given!r}")
    return by_suffix[path.suffix.lower()]


def _holds_images_in_tables(folder: Path) -> bool:
    """Whether there are tables, other than metadata; beside image files, one must have the column `image`."""
    found = [path for suffix in TABLES for path in folder.rglob(f"*{suffix}") if path.is_file()]
    tables = [path for path in found if path.name not in METADATA]
    if tables and any(is_named_image(path.name) for path in folder.rglob("*")):
        return any(_has_image_column(path) for path in tables)
    return bool(tables)


def _has_image_column(table: Path) -> bool:
    try:
        return "image" in cells.schema(table).names
    except InputError:  # damaged
        return False
