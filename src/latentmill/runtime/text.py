"""Text from outside, such as the names of classes, made safe to print."""

import io
import sys

JOINER = "\N{ZERO WIDTH JOINER}"  # within an emoji of several parts


def one_line(text: str) -> str:
    """On one line, without what moves a terminal's cursor or turns the direction of writing."""
    return " ".join("".join(each if each.isprintable() or each == JOINER else " " for each in text).split())


def print_anything() -> None:
    """From now on, also the name of a class that the terminal has no letters for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
