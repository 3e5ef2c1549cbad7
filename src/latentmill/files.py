"""Files that are there whole or not at all: write beside the target, flush to disk, then rename."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` if the block succeeds.

    If the block raises, `target` keeps what it held, so a failed stage never spoils good output.
    """
    target = target.absolute()
    partial, previous = (target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "previous"))
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (partial, previous):
        shutil.rmtree(leftover, ignore_errors=True)
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


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step: a reader sees the old text or the new, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON in one step. NaN and infinity are refused: JSON readers break on them."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
