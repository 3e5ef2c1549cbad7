"""Atomic writes: write beside the target, flush to disk, then rename."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentmill.runtime.partial import clear_partial, lock, partial_output

PIECE = 1 << 20  # bytes read and written at a time
PREVIOUS = ".previous"  # ends the name of a folder that is being replaced


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block succeeds; if it raises, `target` keeps its content.

    Of several processes that replace the same folder at once, the last to end leaves its own.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    _restore(target)  # also where the block fails
    with partial_output(target, folder=True) as partial:
        yield partial
        with _alone_in(target.parent):
            previous = _restored(target)
            if target.exists():
                target.rename(previous)
            partial.rename(target)
            shutil.rmtree(previous, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Clean up after a killed `replacing_folder` in `folder`: restore old folders, remove incomplete new ones."""
    for path in folder.glob(f".*{PREVIOUS}"):
        _restore(folder / path.name.removeprefix(".").removesuffix(PREVIOUS))
    clear_partial(folder)


def _restore(target: Path) -> None:
    with _alone_in(target.parent):
        _restored(target)


def _restored(target: Path) -> Path:
    """The path beside `target` for the old folder, which does not exist now."""
    previous = target.with_name(f".{target.name}{PREVIOUS}")
    if previous.exists() and not target.exists():
        previous.rename(target)  # a run was killed between the two renames
    shutil.rmtree(previous, ignore_errors=True)
    return previous


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Within the block no other process exchanges folders in `folder`, which takes an instant."""
    descriptor = lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def copy_into(folder: Path, source: Path) -> None:
    """Copy the files of `source` into `folder`; unlike shutil.copytree, a full disk is the OSError that it is."""
    for path in source.iterdir():
        shutil.copy2(path, folder)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` in one step: a reader sees the old content or the new, never a part, also after a power cut."""
    write_stream(path, io.BytesIO(content))


def write_stream(path: Path, stream: Any) -> None:
    """The same with what can be read from a binary stream, which may be larger than memory."""
    with partial_output(path) as partial:
        with partial.open("wb") as file:
            shutil.copyfileobj(stream, file, PIECE)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
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
