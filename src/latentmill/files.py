"""Atomic writes: write beside the target, flush to disk, then rename."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block succeeds; if it raises, `target` keeps its content."""
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, previous = _recovered(target)
    partial.mkdir()
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial)
        raise
    if target.exists():
        target.rename(previous)
    partial.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Clean up after a killed `replacing_folder` in `folder`: restore old folders, remove incomplete new ones."""
    for path in [*folder.glob(".*.partial"), *folder.glob(".*.previous")]:
        _recovered(folder / path.stem.removeprefix("."))


def _recovered(target: Path) -> tuple[Path, Path]:
    """The paths beside `target` for the new and the old folder, neither of which exists now."""
    partial, previous = (target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "previous"))
    if previous.exists() and not target.exists():
        previous.rename(target)  # a run was killed between the two renames
    for leftover in (partial, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    return partial, previous


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` in one step: a reader sees the old content or the new, never a part, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # several processes may write the same file
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON in one step. NaN and infinity are refused: JSON readers break on them."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
