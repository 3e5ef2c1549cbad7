"""The manifest of an export: whether a folder is complete and up to date, and whether it may be removed.

    manifest.json: {"format": 2, "inputs": "…", "files": {"decoder.onnx": {"sha256": "…", "bytes": 123}, …}}
    refused.json:  {"entry": "vae", "inputs": "…", …}

`inputs` is the digest of all that the folder was made from, by inputs.py. It is empty if the folder must be made again.
"""

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from latentmill.errors import InputError
from latentmill.runtime.folder import CARD, FORMAT, MANIFEST, REFUSED
from latentmill.runtime.json_file import LARGEST, parse_object
from latentmill.runtime.regular_file import read_regular

Json = dict[str, Any]


def manifest(folder: Path, inputs: str = "") -> Json:
    """The digest of every file in `folder`, against which applications check it."""
    files = {path.name: _described(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    return {"format": FORMAT, "inputs": inputs, "files": files}


def is_up_to_date(folder: Path, inputs: str) -> bool:
    """Whether `folder` was made from these inputs and is unchanged: an export, file by file, or a refusal."""
    if _names(folder) == {REFUSED}:
        return _read(folder / REFUSED).get("inputs") == inputs
    found = _read(folder / MANIFEST)
    whole = bool(found) and all(path.is_file() for path in folder.glob("*"))
    return whole and found == manifest(folder, inputs)


def remove_others(root: Path, kept: Collection[str]) -> list[Path]:
    """Remove the folders of `root` that the pipeline wrote for entries that are not `kept`; return these folders.

    A folder of the pipeline has the name of its entry, and only files that the pipeline wrote: a copy under another
    name, or with notes in it, is the user's.
    """
    found = [path for path in sorted(root.glob("*")) if path.name not in kept and _is_own(path)]
    for folder in found:
        shutil.rmtree(folder)
    return found


def _is_own(folder: Path) -> bool:
    if _names(folder) == {REFUSED}:
        return _read(folder / REFUSED).get("entry") == folder.name
    files = _read(folder / MANIFEST).get("files")
    named = {*files, MANIFEST} if isinstance(files, dict) else set()
    return _read(folder / CARD).get("entry") == folder.name and _names(folder) == named


def _described(path: Path) -> Json:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def _read(path: Path) -> Json:
    """A JSON object; empty if it cannot be read."""
    try:
        return parse_object(read_regular(path, LARGEST), str(path))
    except (OSError, InputError):
        return {}
