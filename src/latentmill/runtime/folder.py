"""The folder of an export, whose files must have the digests in its manifest.

{"format": 2, "files": {"decoder.onnx": {"sha256": "…", "bytes": 123}, …}}

Format 1 has other words in its card, and is read as well. An entry that was refused has a folder too, which holds only
`refused.json`: {"entry": …, "reason": …, …}.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentmill.errors import InputError, shown
from latentmill.runtime.format_1 import upgraded
from latentmill.runtime.json_file import LARGEST as LARGEST_JSON
from latentmill.runtime.json_file import parse_object
from latentmill.runtime.regular_file import read_regular
from latentmill.runtime.text import listed, one_line

MANIFEST, CARD, REFUSED = "manifest.json", "card.json", "refused.json"
FORMAT, READABLE = 2, (1, 2)  # that is written; that can be read
DIGEST = re.compile("[0-9a-f]{64}")
LARGEST = 2 << 30  # bytes of a file: protobuf can hold no more


class Folder:
    """An export, as read from disk."""

    def __init__(self, path: Path | str) -> None:
        """Read the manifest.

        Raises:
            InputError: there is no folder, it was refused, or its manifest is missing, damaged or of another format.
        """
        self.path = Path(path)
        if not _is_there(self.path.is_dir):
            raise InputError(f"an export must be a folder such as exports/vae, but there is none at {path}")
        if _is_there((self.path / REFUSED).exists):
            found = parse_object(self._bytes(REFUSED), str(self.path / REFUSED))
            raise InputError(f"{path} must hold a model, but its export was refused: {_reason(found)}")
        if not _is_there((self.path / MANIFEST).exists) and (inner := _exports_in(self.path)):
            raise InputError(f"{path} must be an export, but is a folder of exports: name one, such as {inner}")
        self.manifest = self._bytes(MANIFEST)  # as it was read
        manifest = parse_object(self.manifest, str(self.path / MANIFEST))
        if manifest.get("format") not in READABLE:
            known, got = " or ".join(map(str, READABLE)), shown(manifest.get("format"))
            raise InputError(f"{self.path / MANIFEST} must have the format {known}, but has {got}")
        self.digests = _digests(manifest.get("files"), str(self.path / MANIFEST))

    @property
    def names(self) -> list[str]:
        """The files that the manifest names, sorted."""
        return sorted(self.digests)

    def read(self, name: str) -> bytes:
        """The content of a file that the manifest names.

        Raises:
            InputError: it names no such file, or the file is missing or has another digest.
        """
        if name not in self.digests:
            raise InputError(f"{self.path} must hold {name}, but its manifest names {listed(self.names) or 'nothing'}")
        content = self._bytes(name)
        found = hashlib.sha256(content).hexdigest()
        if found != self.digests[name]:
            rule = f"{self.path / name} must have the SHA-256 that the manifest names, {self.digests[name][:12]}…"
            raise InputError(f"{rule}, but has {found[:12]}…")
        return content

    def card(self) -> dict[str, Any]:
        """What card.json says about the model, in the words of format 2.

        Raises:
            InputError: as `read`, or it is no JSON object.
        """
        return upgraded(parse_object(self.read(CARD), str(self.path / CARD)))

    def _bytes(self, name: str) -> bytes:
        try:
            return read_regular(self.path / name, LARGEST_JSON if name.endswith(".json") else LARGEST)
        except OSError as error:
            raise InputError(f"{self.path} must hold {name}, but reading it: {error.strerror}") from None


def _is_there(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError as error:  # a folder that may not be entered, say
        raise InputError(
            f"an export must be a folder that can be read, but {error.filename}: {error.strerror}"
        ) from None


def _exports_in(path: Path) -> str:
    """The exports in a folder; empty where there is none."""
    return listed([str(each.parent) for each in sorted(path.glob(f"*/{MANIFEST}"))])


def _reason(refused: dict[str, Any]) -> str:
    """With the evidence, where there is any."""
    parts = [one_line(str(refused[key])[:1000]) for key in ("reason", "evidence") if refused.get(key)]
    return ": ".join(parts) or "no reason is given"


def _digests(files: Any, where: str) -> dict[str, str]:
    """By file name. A name must not be a path, so that no file outside of the folder is read."""
    try:
        digests = {str(name): str(file["sha256"]) for name, file in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{where} must name files with their sha256, but has {shown(files)}") from None
    for name, digest in digests.items():
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name or not name.isprintable():
            raise InputError(f"{where} must name files in its own folder, but has {shown(name)}")
        if not DIGEST.fullmatch(digest):
            raise InputError(f"{where} must name files with their sha256, 64 digits, but has {shown(digest)}")
    return digests
