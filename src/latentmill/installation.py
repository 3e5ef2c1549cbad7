"""What is installed: the version and digest of this package, its stages, and the libraries that it asks for."""

import hashlib
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from latentmill.errors import InputError
from latentmill.stage import PACKAGE, REPOSITORY

VERSION = Path(".latentmill/version.txt")  # of a project without a clone; its stages depend on it
CODE = ("*.py", "*.j2")  # what results depend on
OTHER_EXTRAS = re.compile(r"extra == .(dev|bench|cluster)")  # that add nothing to what stages import


def stage_file(name: str) -> Path:
    """The file of a stage of the pipeline.

    Raises:
        InputError: there is no such stage.
    """
    files = {path.stem: path for path in sorted((REPOSITORY / "pipeline").glob("*.py"))}
    if name not in files:
        raise InputError(f"a stage must be one of {', '.join(files)}, but got {name!r}")
    return files[name]


def installed() -> str:
    """A line with the version and digest of latentmill, and a line for each library that it asks for."""
    lines = [f"latentmill {version('latentmill')} {_digest()}"]
    for requirement in requires("latentmill") or []:
        name = re.split(r"[^\w.-]", requirement)[0]
        if name != "latentmill" and not OTHER_EXTRAS.search(requirement):
            lines.append(f"{name} {_version(name)}")
    return "".join(f"{line}\n" for line in sorted(set(lines)))


def is_another() -> bool:
    """Whether the stages here ran with another installation; false where they depend on files of a clone."""
    return VERSION.exists() and VERSION.read_text(encoding="utf-8") != installed()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is missing"


def _digest() -> str:
    """SHA-256 of the code, by its places in the package."""
    hashed = hashlib.sha256()
    for root, folder in ((PACKAGE, PACKAGE), (REPOSITORY, REPOSITORY / "pipeline")):
        for path in sorted(path for pattern in CODE for path in folder.rglob(pattern)):
            hashed.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return hashed.hexdigest()
