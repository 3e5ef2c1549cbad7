"""`latentmill params`: every key that params.yaml may have, with what it may be, its default and its description."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import PlainValidator
from pydantic.fields import FieldInfo

from latentmill import registry
from latentmill.config import AUTO, NOT_SEARCHABLE, EntryConfig, Params, Settings
from latentmill.errors import InputError
from latentmill.project.comments import descriptions, first_sentence
from latentmill.registry import Family
from latentmill.trials.auto import LATENT, OBSERVATION
from latentmill.trials.space import BESIDE

NAMES = {int: "whole number", float: "number", str: "text", bool: "true | false", NoneType: "null"}
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
ENTRY = "keys of the model and of `trial`; values, or [1, 2], {uniform: [1, 2]}, {loguniform: [1, 2]}, {choice: [1, 2]}"
UNBOUNDED = 2**53  # numbers from here on are bounds of the machine, not of the setting
PLACES: dict[str, Family] = {"ladder": "models", "priors": "priors"}  # sections whose keys depend on a name in them
PLAIN = [name for name, field in Params.model_fields.items() if field.annotation is str]  # keys beside the sections
OWN = {section: BESIDE[family] for section, family in PLACES.items()}  # what is no hyperparameter


@dataclass(frozen=True)
class Key:
    """One that can be set."""

    name: str  # as `dvc exp run -S` takes it
    values: str  # what it may be
    default: str  # as in params.yaml; where the key must be there, says so
    description: str

    @property
    def part(self) -> str:
        """The last of its name."""
        return self.name.rpartition(".")[2]

    def matches(self, wanted: str) -> bool:
        """Whether `wanted`, such as `vae`, `train.asha` or `learning_rate`, are neighbouring parts of the name."""
        return f".{wanted}." in f".{self.name}."


def described(wanted: Sequence[str] = ()) -> list[str]:
    """Lines with all keys, or those that match one of `wanted`, in sections with headings.

    Raises:
        InputError: no key matches one of `wanted`.
    """
    sections = [(heading, list(keys)) for heading, keys in _sections()]
    for each in wanted:
        if not any(key.matches(each) for _, keys in sections for key in keys):
            rule = "it must be a key of params.yaml or a part of its name, as in `latentmill params vae train.asha`"
            raise InputError(f"{rule}, but got {each!r}: `latentmill params` has all")
    lines: list[str] = []
    for heading, keys in sections:
        if shown := [key for key in keys if not wanted or any(map(key.matches, wanted))]:
            lines += [*([""] if lines else []), f"# {heading}", *_aligned(shown)]
    return lines


def _aligned(keys: list[Key]) -> Iterator[str]:
    width = max(len(f"{key.name}: {key.default}") for key in keys)
    for key in keys:
        yield f"{f'{key.name}: {key.default}':<{width}}  # {key.values}; {key.description}"


def _sections() -> Iterator[tuple[str, Iterable[Key]]]:
    """Headings and their keys."""
    yield "beside the sections", [key for key in _keys("", Params) if key.name in PLAIN]
    for section, field in Params.model_fields.items():
        for config in _settings(field.annotation):
            yield f"{section}: {first_sentence(config.__doc__)}", _keys(section, config)
    for section, family in PLACES.items():
        yield f"{section}.<name>: {ENTRY}", _entry_keys(section, registry.names(family))
        for name in registry.names(family):
            found = registry.find(family, name)
            heading = f"{section}, model: {name}: {first_sentence(sys.modules[found.__module__].__doc__)}"
            yield heading, _keys(f"{section}.{name}", found.Config, family)


def _entry_keys(section: str, models: list[str]) -> Iterator[Key]:
    """Those that are no hyperparameters. The model of an entry is by default the one that it is called by."""
    for key in _keys(f"{section}.<name>", EntryConfig):
        if key.part == "model":
            yield replace(key, values=" | ".join(models), default="<name>")
        elif key.part in OWN[section]:
            yield key


def _keys(prefix: str, config: type[Settings], family: Family | None = None) -> Iterator[Key]:
    texts = descriptions(config)
    for name, field in config.model_fields.items():
        inner = list(_settings(field.annotation))
        values, default = _values(field.annotation, field.metadata), _default(field)
        if family == "models" and name in (OBSERVATION, LATENT):
            values, default = f"{values} | {AUTO}", AUTO if name == OBSERVATION else default
        once = "" if NOT_SEARCHABLE not in field.metadata else "; not searched"
        keys = "keys | null" if field.default is None else "keys"
        yield Key(f"{prefix}.{name}".lstrip("."), keys if inner else values + once, default, texts[name])
        for each in inner:
            yield from _keys(f"{prefix}.{name}", each)


def _settings(annotation: Any) -> Iterator[type[Settings]]:
    """The classes of settings in an annotation; of a mapping by names of the user's, none."""
    for each in (annotation, *(get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ())):
        if isinstance(each, type) and issubclass(each, Settings):
            yield each


def _values(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """`whole number >= 1 | null`."""
    for each in metadata:
        if isinstance(each, PlainValidator):
            return _rule(each)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], [*inner[1:], *metadata])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(_values, inner))
    if origin is list:
        return f"[{_values(inner[0])}, …]"
    if origin is dict:
        return f"{{{_values(inner[0])}: {_values(inner[1])}}}"
    return NAMES.get(annotation, "") + _bounds(metadata)


def _rule(validator: Any) -> str:
    """What a validator of ours asks for, which is in the error that any other value gets."""
    try:
        validator.func(object())
    except ValueError as error:
        return str(error).removeprefix("must be ")
    raise TypeError(f"{validator} takes everything")


def _bounds(metadata: Sequence[Any]) -> str:
    flat = [inner for each in metadata for inner in (each.metadata if isinstance(each, FieldInfo) else [each])]
    found = [(sign, getattr(each, name)) for each in flat for name, sign in BOUNDS.items() if hasattr(each, name)]
    return ",".join(f" {sign} {bound:g}" for sign, bound in found if bound < UNBOUNDED)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(must be there)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Settings):
        return "{}"  # its own keys say theirs
    return value if isinstance(value, str) and value else json.dumps(value)
