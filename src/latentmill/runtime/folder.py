"""An exported folder, whose files are what its manifest says, byte for byte.

{"format": 1, "files": {"decoder.onnx": {"sha256": "…", "bytes": 123}, …}}

What was refused has a folder too, with `refused.json` in place of all that: {"entry": …, "reason": …, …}.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from latentmill.errors import InputError

MANIFEST, CARD, REFUSED = "manifest.json", "card.json", "refused.json"
FORMAT = 1


class Folder:
    """What `latentmill` exported, as read from disk."""

    def __init__(self, path: Path | str) -> None:
        """Read the manifest.

        Raises:
            InputError: there is no folder, it was refused, or its manifest is missing, damaged or of another format.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"a model must be an exported folder such as exports/vae, but there is none at {path}")
        if (self.path / REFUSED).exists():
            found = _parsed(self._bytes(REFUSED), str(self.path / REFUSED))
            raise InputError(f"{path} must hold a model, but its export was refused: {_reason(found)}")
        manifest = _parsed(self._bytes(MANIFEST), str(self.path / MANIFEST))
        if manifest.get("format") != FORMAT:
            raise InputError(
                f"{self.path / MANIFEST} must have the format {FORMAT}, but has {manifest.get('format')!r}"
            )
        self.digests = _digests(manifest.get("files"), str(self.path / MANIFEST))

    @property
    def names(self) -> list[str]:
        """The files that the manifest names, sorted."""
        return sorted(self.digests)

    def read(self, name: str) -> bytes:
        """The content of a file that the manifest names.

        Raises:
            InputError: it names no such file, or the file is missing or not what it names.
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
        """What card.json says of the model.

        Raises:
            InputError: as `read`, or it is no JSON object.
        """
        return _parsed(self.read(CARD), str(self.path / CARD))

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
    told = [str(refused[key]) for key in ("reason", "evidence") if refused.get(key)]
    return ": ".join(told) or "nobody said why"


def _digests(files: Any, where: str) -> dict[str, str]:
    """By name. A name is no path, so nothing outside of the folder can be meant."""
    try:
        digests = {str(name): str(file["sha256"]) for name, file in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{where} must name files with their sha256, but has {str(files)[:40]!r}") from None
    for name in digests:
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise InputError(f"{where} must name files in its own folder, but has {name!r}")
    return digests
