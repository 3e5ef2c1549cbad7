"""Directions along which a code is changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latentmill.errors import InputError, shown
from latentmill.runtime.arguments import numbers
from latentmill.runtime.text import listed

Direction = str | int | np.integer | np.ndarray
REACH = (-3.0, 3.0)  # along a dimension or a vector of the caller's


def read_directions(card: Mapping[str, Any], code_shape: tuple[int, ...], where: str) -> list[dict[str, Any]]:
    """The named directions of a card, each with a `vector` of `code_shape`, and `low` and `high` along it.

    Raises:
        InputError: one is not such a direction; it names `where`.
    """
    found: list[dict[str, Any]] = card.get("directions") or []
    try:
        for each in found:
            _vector(each["vector"], code_shape)
            numbers("low and high", np.array([[each["low"], each["high"]]]), (2,))
            _require_text(each["name"])
    except (KeyError, TypeError, ValueError) as error:
        rule = f"directions with name, vector of {int(np.prod(code_shape))} numbers, low and high"
        raise InputError(f"{where} must have {rule}, but: {shown(str(error))}") from None
    return found


def find_direction(
    named: Sequence[dict[str, Any]], code_shape: tuple[int, ...], given: Direction
) -> tuple[np.ndarray, tuple[float, float]]:
    """The vector of a direction, float32 of `code_shape`, and the first and the last t along it.

    Args:
        named: the directions of a card.
        code_shape: of the vector.
        given: a name, the index of a value of a flattened code, or a vector, flattened or not.

    Raises:
        InputError: there is no such direction, or the vector has another shape.
    """
    if isinstance(given, str):
        return _named(named, code_shape, given)
    if not isinstance(given, int | np.integer) or isinstance(given, bool):
        return _vector(given, code_shape), REACH
    unit = np.zeros(code_shape, np.float32)
    if not 0 <= given < unit.size:
        raise InputError(f"a direction's dimension must be from 0 to {unit.size - 1}, but got {given}")
    unit.flat[given] = 1
    return unit, REACH


def _named(
    named: Sequence[dict[str, Any]], code_shape: tuple[int, ...], name: str
) -> tuple[np.ndarray, tuple[float, float]]:
    found = {each["name"]: each for each in named}
    if name not in found:
        raise InputError(f"a direction must be one of {listed(list(found))}, but got {shown(name)}")
    return _vector(found[name]["vector"], code_shape), (found[name]["low"], found[name]["high"])


def _require_text(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a name is {shown(name)}")


def _vector(given: Any, code_shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(given)
    flat = array.reshape(-1) if array.shape == code_shape else array
    return numbers("direction", flat[None], (int(np.prod(code_shape)),))[0].reshape(code_shape)
