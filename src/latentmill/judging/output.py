"""The output folder of a judgement, checked before anything is computed, so that no work is lost to a bad one."""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from latentmill.data.sources.paths import possible_path
from latentmill.errors import InputError

RULE = "the output must be a folder that can be written"


def require_usable(out: str | Path, sources: Iterable[str | None]) -> Path:
    """The output folder, where it can be written and lies apart from the folders of images among `sources`.

    Raises:
        InputError: it can't be, or does not.
    """
    if not str(out):
        raise InputError(f"{RULE}, but its name is empty: leave --out out, or name a folder")
    _require_apart(Path(out), filter(None, sources))
    _require_writable(Path(out))
    return Path(out)


def _require_apart(out: Path, sources: Iterable[str]) -> None:
    """The record would count as a file of the images in the next run."""
    ours = Path(os.path.realpath(out))
    for each in sources:
        theirs = _folder(each)
        if theirs is not None and (ours == theirs or theirs in ours.parents):
            rule = "the output must be a folder apart from those of the images, not the same or below"
            raise InputError(f"{rule}, but got {str(out)!r} beside {each!r}: name another with --out")


def _folder(name: str) -> Path | None:
    """Where it is one; what is wrong with another name is said where its images are read."""
    with suppress(InputError):
        path = possible_path(name)
        return Path(os.path.realpath(path)) if path.is_dir() else None
    return None


def _require_writable(folder: Path) -> None:
    """Tried, because permissions don't say all: what is made for this is removed again."""
    made: list[Path] = []
    try:
        made += [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{RULE}, but got {str(folder)!r}: {error.strerror}") from None
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()
