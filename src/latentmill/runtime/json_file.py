"""JSON from outside, in bounded memory: the cards, manifests and refusals of exports."""

import json
from pathlib import Path
from typing import Any, NoReturn

from latentmill.errors import InputError, escaped, shown
from latentmill.runtime.regular_file import read_regular

LARGEST = 32 << 20  # bytes; the card of a model with a thousand classes has less than one in 50 of that
LONGEST_TEXT = 1000  # characters that are shown
DEEPEST = 50  # levels of objects and lists


def read_object(path: Path, stage: str) -> dict[str, Any]:
    """The JSON object in a file that a stage wrote.

    Raises:
        InputError: there is none, as of `parse_object`, or it can't be read; it names the stage to run.
    """
    try:
        return parse_object(read_regular(path, LARGEST), str(path))
    except OSError as error:
        raise InputError(f"{path} must be a readable file, but: {error.strerror}; run `dvc repro {stage}`") from None
    except InputError as error:
        raise InputError(f"{error}; run `dvc repro {stage}`") from None


def parse_object(content: bytes, where: str) -> dict[str, Any]:
    """A JSON object, all of whose numbers are finite.

    Raises:
        InputError: `content` is none, is nested too deeply, or has more than `LARGEST` bytes; it names `where`.
    """
    if len(content) > LARGEST:
        raise InputError(f"{where} must have at most {LARGEST >> 20} MiB, but has {len(content):,} bytes")
    try:
        found = json.loads(content, parse_constant=_refuse)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise InputError(f"{where} must be JSON, but: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{where} must be a JSON object, but is {shown(found)}")
    _require_levels([found], where)
    return found


def at(content: Any, *keys: Any) -> Any:
    """What lies there in objects within objects; None where nothing does."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) and isinstance(key, str) else None
    return content


def text_at(content: Any, where: str, *keys: Any) -> str:
    """The text that lies there, escaped, or the beginning of a long one.

    Raises:
        InputError: there is none; it names `where`.
    """
    found = at(content, *keys)
    if not isinstance(found, str):
        place = escaped(".".join(map(str, keys))[:LONGEST_TEXT])
        raise InputError(f"{where} must have a text as {place}, but has {shown(found)}")
    return escaped(found[:LONGEST_TEXT])


def _require_levels(level: list[Any], where: str) -> None:
    """One level after the other: a recursion would end where Python's does."""
    for _ in range(DEEPEST):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for items in inner for each in items if isinstance(each, dict | list)]
    if level:
        raise _too_deep(where)


def _too_deep(where: str) -> InputError:
    return InputError(f"{where} must have at most {DEEPEST} levels of objects and lists, but has more")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}, which is no number of JSON")
