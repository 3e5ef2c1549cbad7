"""A listing of all source files with their digests, which changes with any of them.

Digests are cached with the size, times and inode of a file, so that only files that may have changed are read again.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import OnProgress
from latentmill.data.sources.paths import LISTING
from latentmill.errors import InputError
from latentmill.runtime.cores import cores
from latentmill.storage import Storage

Stat = tuple[int, int, int, int]  # size, mtime and ctime in ns, inode
Entry = tuple[int, int, int, int, str]  # the same, and the digest
CACHE = Path(".latentmill/scan.json")
# A file that was written shortly before it was read may be written again within the resolution of its times.
RECENT = 2 * 10**9  # ns
CHUNK = 1 << 20


def listing(files: Iterable[str | Path], cache: Path, progress: OnProgress) -> str:
    """A line per file: digest, size, path. Valid digests come from `cache`, which is updated.

    `progress` is called as files are digested. A file that can't be read has the reason in place of its digest.
    """
    paths = sorted({os.fspath(path) for path in files})
    known, now = _read(cache), time.time_ns()
    found = {path: _stat(path) for path in paths}
    fresh = {path: known[path] for path in paths if path in known and known[path][:4] == found[path]}
    stale = [path for path in paths if isinstance(found[path], tuple) and path not in fresh]
    reasons = {path: reason for path, reason in found.items() if isinstance(reason, str)}
    if stale:
        progress("files digested", 0, len(stale))  # because the first may be huge
    with ThreadPoolExecutor(cores()) as pool:
        for done, (path, result) in enumerate(zip(stale, pool.map(_digested, stale), strict=True), start=1):
            if isinstance(result, OSError):
                reasons[path] = f"unreadable: {result.strerror}"
            else:
                fresh[path] = (*found[path], result)
            progress("files digested", done, len(stale))
    if stale or known.keys() != fresh.keys():
        _write(cache, {path: entry for path, entry in fresh.items() if max(entry[1:3]) < now - RECENT})
    here = f"{Path.cwd()}/"
    return "".join(f"{_line(path, fresh.get(path, reasons.get(path, '')), here)}\n" for path in paths)


def has_changed(config: DataConfig, progress: OnProgress = lambda what, done, total: None) -> bool:
    """Whether the images are not those in `LISTING`; false where there is none, such as in a job.

    Raises:
        InputError: there are no images any more.
    """
    if not LISTING.exists():
        return False
    return listing(sources.files(config), CACHE, progress) != LISTING.read_text(encoding="utf-8")


def require_as_listed(config: DataConfig, progress: OnProgress) -> None:
    """Raises InputError where the images are not those in `LISTING`, for which DVC would take what was made of them."""
    if has_changed(config, progress):
        raise InputError("the files of the images must stay the same while they are prepared, but changed: run again")


def _line(path: str, entry: Entry | str, here: str) -> str:
    """The path is relative to the working directory or to site-packages, so that it is the same in every checkout."""
    inside = path.rpartition("/site-packages/")[2]
    name = json.dumps(inside if inside != path else path.removeprefix(here))  # as JSON: it may hold a line break
    if isinstance(entry, str):
        return f"{entry:64} {0:12} {name}"
    size, *_, digest = entry
    return f"{digest:64} {size:12} {name}"


def _stat(path: str) -> Stat | str:
    """The stamp of a file, or why it can't be read."""
    try:
        found = os.stat(path)  # noqa: PTH116  # 100 000 times: half the time of Path.stat
    except (OSError, ValueError) as error:
        return f"unreadable: {getattr(error, 'strerror', error)}"
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _digested(path: str) -> str | OSError:
    """The digest of a file; an error is not cached, because the next try may succeed."""
    state = hashlib.sha256()
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # as above
            while chunk := file.read(CHUNK):
                state.update(chunk)
    except OSError as error:
        return error
    return state.hexdigest()


def _read(cache: Path) -> dict[str, Entry]:
    """The cache of an earlier scan; empty where there is none or it is damaged."""
    try:
        content: Any = json.loads(Storage(cache.parent).read(cache.name))
        return {path: (*map(int, entry[:4]), str(entry[4])) for path, entry in content.items()}  # type: ignore[misc]
    except (OSError, ValueError, AttributeError, TypeError, IndexError, KeyError, RecursionError):
        return {}


def _write(cache: Path, entries: dict[str, Entry]) -> None:
    Storage(cache.parent).write(cache.name, json.dumps(entries, separators=(",", ":")).encode())
