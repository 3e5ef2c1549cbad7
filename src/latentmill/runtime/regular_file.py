"""Reading a file that may be another than it seems: a device behind a link, a pipe without a writer, a huge one."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from latentmill.errors import InputError, shown


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes; links are followed, as those of a DVC cache.

    Raises:
        OSError: it cannot be opened or read.
        InputError: it is no regular file, or larger.
    """
    with open_regular(path) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    if len(content) > most:
        raise InputError(f"{path} must have at most {most:,} bytes, but has more")
    return content


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """A regular file, opened without waiting for anybody who would write into a pipe.

    Raises:
        OSError: it cannot be opened.
        InputError: it is no regular file.
    """
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:  # a name with a NUL, or one that the file system cannot encode
        raise InputError(f"a file must have a name that can be opened, but got {shown(str(path))}") from None
    try:
        reader = open(opened, "rb")  # noqa: PTH123, SIM115  # of a descriptor
    except OSError:  # of a folder, which leaves the descriptor open
        os.close(opened)
        raise
    with reader as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise InputError(f"{path} must be a regular file, but is a device or pipe")
        yield file
