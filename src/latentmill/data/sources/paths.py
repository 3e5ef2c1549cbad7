"""data.path, for the sources that need one, and names of files as text."""

import os
from pathlib import Path

from latentmill.config import DataConfig
from latentmill.errors import InputError

LISTING, PREPARED = Path("data/listing.txt"), Path("data/prepared")  # what the stages scan and prepare write


def required_path(config: DataConfig, what: str) -> Path:
    """Where the user's images are.

    Raises:
        InputError: data.path is missing, can't be one, is not in the copy that DVC runs in, or holds or lies in what
            the stages write.
    """
    if config.path is None:
        raise InputError(f"data.path must name {what} for the source {config.source}, but is missing")
    path = possible_path(config.path)
    _require_reachable_from_copy(path)
    ours = Path(os.path.realpath(path))
    for written in map(Path, map(os.path.realpath, (LISTING, PREPARED))):
        if ours == written or ours in written.parents or written in ours.parents:
            rule = f"data.path must lie apart from what is written, {LISTING} and {PREPARED}"
            raise InputError(f"{rule}, but got {config.path!r}: move the images to a folder of their own")
    return path


def _require_reachable_from_copy(path: Path) -> None:
    """Raises InputError in an experiment of DVC that runs in a copy of the project, which has only what git tracks."""
    here, first = Path.cwd(), Path(*path.parts[:1])
    is_copy = (".dvc", "tmp", "exps") in zip(here.parts, here.parts[1:], here.parts[2:], strict=False)
    if is_copy and not path.is_absolute() and not first.exists() and not set(first.name) & set("*?[{"):
        rule = "data.path must be an absolute path where DVC runs in a copy of the project, as with --temp and --queue"
        raise InputError(f"{rule}, but got {str(path)!r}, which git does not track")


def possible_path(name: str) -> Path:
    """A path with the home folder in the place of ~, whether or not there is something.

    Raises:
        InputError: no file can have such a name, or the system keeps this process from it.
    """
    try:
        path = Path(name).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of a user who does not exist
        found = getattr(error, "strerror", None) or str(error)
        short = name if len(name) <= 80 else f"{name[:80]}…"
        raise InputError(f"data.path must be a path that can be reached, but got {short!r}: {found}") from None
    return path


def is_file(path: Path) -> bool:
    """Whether it is there and a regular file; what no file can be called is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def require_no_path(config: DataConfig) -> None:
    """Raises: InputError: there is a data.path, which would be ignored."""
    if config.path is not None:
        rule = f"data.path must be left out for {config.source}, which a library carries"
        raise InputError(f"{rule}, but got {config.path!r}")


def printable(name: str) -> str:
    """The same name; bytes in it that are not UTF-8 as backslashes and numbers."""
    return name.encode("utf-8", "backslashreplace").decode()
