"""Which source reads what a user names, by what lies there."""

from pathlib import Path

from latentmill.data.sources.archive import SUFFIXES as ARCHIVES
from latentmill.data.sources.paths import possible_path
from latentmill.data.sources.table import SUFFIXES as TABLES
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
        has_table = any(next(path.rglob(f"*{suffix}"), None) for suffix in TABLES)
        return "table" if has_table else "folder"
    by_suffix = dict.fromkeys(ARCHIVES, "archive") | dict.fromkeys(ARRAYS, "arrays") | dict.fromkeys(TABLES, "table")
    if path.suffix.lower() not in by_suffix:
        rule = f"there must be a folder, or a file that ends in {', '.join(by_suffix)}, or one of {', '.join(BUNDLED)}"
        got = "but there is a file of another kind" if path.exists() else "but there is nothing"
        raise InputError(f"{rule}, {got}: {given!r}")
    return by_suffix[path.suffix.lower()]
