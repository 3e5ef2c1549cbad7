"""data.path, for the sources that need one, and names of files as text."""

from pathlib import Path

from latentmill.config import DataConfig
from latentmill.errors import InputError


def required_path(config: DataConfig, what: str) -> Path:
    """Where the user's images are.

    Raises:
        InputError: data.path is missing.
    """
    if config.path is None:
        raise InputError(f"data.path must name {what} for the source {config.source}, but is missing")
    return Path(config.path).expanduser()


def require_no_path(config: DataConfig) -> None:
    """Raises: InputError: there is a data.path, which would be ignored."""
    if config.path is not None:
        rule = f"data.path must be left out for {config.source}, which a library carries"
        raise InputError(f"{rule}, but got {config.path!r}")


def printable(name: str) -> str:
    """The same name; bytes in it that are not UTF-8 as backslashes and numbers."""
    return name.encode("utf-8", "backslashreplace").decode()
