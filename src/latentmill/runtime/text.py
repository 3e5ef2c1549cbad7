"""Text from outside, such as the names of classes, made safe to print."""

import io
import sys
from collections.abc import Sequence

from latentmill.errors import JOINER

LISTED = 12  # names in an error


def one_line(text: str) -> str:
    """On one line, without what moves a terminal's cursor or turns the direction of writing."""
    return " ".join("".join(each if each.isprintable() or each == JOINER else " " for each in text).split())


def quoted(name: str) -> str:
    """Quoted where it has a comma, a quote or an unprintable letter, so that it can be copied from a list."""
    return repr(name) if name != one_line(name) or set(name) & set(",'\"") else name


def plural(number: int, one: str, many: str = "") -> str:
    """`1 image`, `1,024 images`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*map(quoted, names[:LISTED]), *more])


def print_anything() -> None:
    """From now on, also the name of a class that the terminal has no letters for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
