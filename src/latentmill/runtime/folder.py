"""The folder of an export, whose files must have the digests in its manifest.

{"format": 2, "files": {"decoder.onnx": {"sha256": "…", "bytes": 123}, …}}

Format 1 has other words in its card, and is read as well. An entry that was refused has a folder too, which holds only
`refused.json`: {"entry": …, "reason": …, …}.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from latentmill.errors import InputError
from latentmill.runtime.format_1 import upgraded

MANIFEST, CARD, REFUSED = "manifest.json", "card.json", "refused.json"
FORMAT, READABLE = 2, (1, 2)  # that is written; that can be read


class Folder:
    """An export, as read from disk."""

    def __init__(self, path: Path | str) -> None:
        """Read the manifest.

        Raises:
            InputError: there is no folder, it was refused, or its manifest is missing, damaged or of another format.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"an export must be a folder such as exports/vae, but there is none at {path}")
        if (self.path / REFUSED).exists():
            found = _parsed(self._bytes(REFUSED), str(self.path / REFUSED))
            raise InputError(f"{path} must hold a model, but its export was refused: {_reason(found)}")
        manifest = _parsed(self._bytes(MANIFEST), str(self.path / MANIFEST))
        if manifest.get("format") not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise InputError(f"{self.path / MANIFEST} must have the format {known}, but has {manifest.get('format')!r}")
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
            raise InputError(
                f"{self.path} must hold {name}, but its manifest names {', '.join(self.names) or 'nothing'}"
            )
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
        return upgraded(_parsed(self.read(CARD), str(self.path / CARD)))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} must hold {name}, but reading it: {error.strerror}") from None


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise InputError(f"{where} must be JSON, but: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{where} must be a JSON object, but is {str(found)[:40]!r}")
    return found


def _reason(refused: dict[str, Any]) -> str:
    """With the evidence, where there is any."""
    parts = [str(refused[key]) for key in ("reason", "evidence") if refused.get(key)]
    return ": ".join(parts) or "no reason is given"


def _digests(files: Any, where: str) -> dict[str, str]:
    """By file name. A name must not be a path, so that no file outside of the folder is read."""
    try:
        digests = {str(name): str(file["sha256"]) for name, file in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{where} must name files with their sha256, but has {str(files)[:40]!r}") from None
    for name in digests:
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise InputError(f"{where} must name files in its own folder, but has {name!r}")
    return digests
