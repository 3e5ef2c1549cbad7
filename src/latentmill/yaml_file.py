"""YAML in bounded time and memory, beyond which brackets in one another, aliases and merged lists lead its reader."""

import re
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError

from latentmill.errors import InputError

LARGEST, DEEPEST, MOST_VALUES = 64 << 10, 100, 20_000  # bytes, brackets in one another, values


def parse_yaml(content: bytes, where: str) -> Any:
    """What a document of YAML 1.2 holds: mappings, lists and plain values.

    Raises:
        InputError: it is none, or larger or deeper than the bounds; it names `where`.
    """
    if len(content) > LARGEST:
        raise InputError(f"{where} must have at most {LARGEST:,} bytes, but has more")
    depths = accumulate({b"[": 1, b"{": 1}.get(each, -1) for each in re.findall(rb"[\[\]{}]", content))
    if max(depths, default=0) > DEEPEST:
        raise InputError(f"{where} must have at most {DEEPEST} brackets in one another, but has more")
    try:
        found = _reader().load(content)
    except RecursionError:
        raise InputError(f"{where} must be nested less deeply") from None
    except (YAMLError, ValueError) as error:  # ValueError: of a date or a number that is none
        raise InputError(f"{where} must be YAML: {' '.join(str(error).split())[:500]}") from None
    if sum(1 for _ in islice(values(found), MOST_VALUES + 1)) > MOST_VALUES:
        raise InputError(f"{where} must hold at most {MOST_VALUES:,} values, but has more, or aliases make them more")
    return found


def values(content: Any) -> Iterator[Any]:
    """The lists and mappings in `content`, and all that they hold; without end where one holds itself."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        yield value


def _reader() -> YAML:
    yaml = YAML(typ="safe")
    yaml.Constructor = _Constructor
    return yaml


class _Constructor(SafeConstructor):
    def flatten_mapping(self, node: Any) -> Any:
        """With a bound for `<<`: each level of merged lists may multiply what the one below has."""
        merged = super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise YAMLError(f"at most {MOST_VALUES:,} values may be merged into one mapping")
        return merged
