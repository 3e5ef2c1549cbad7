"""The search space of a ladder entry or prior of params.yaml, and its points.

A list is a grid; {uniform: [low, high]}, {loguniform: [low, high]} and {choice: [...]} are sampled, `samples`
times for each point of the grid. Draw j of a key depends only on the seed, the entry, the key and j, so a grid can grow
without changing the trials that are already trained.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_origin

import numpy as np

from latentmill import registry
from latentmill.config import EntryConfig, OnlyWith, TrainingConfig, checked, is_searchable
from latentmill.contract import Model
from latentmill.errors import InputError
from latentmill.registry import Family
from latentmill.trials.trial import Trial

Point = dict[str, Any]  # a value for each key of the entry
SAMPLERS = ("uniform", "loguniform", "choice")
SECTIONS = {"models": "ladder", "priors": "priors"}  # of params.yaml
# What an entry and a prior say beside their hyperparameters.
BESIDE: dict[Family, tuple[str, ...]] = {"models": tuple(EntryConfig.model_fields), "priors": ("model", "samples")}


@dataclass(frozen=True)
class Configuration:
    """A point of a space, checked and complete: a trial without its seed."""

    model: str  # or prior
    config: dict[str, Any]
    training: dict[str, Any] | None  # None for a closed form
    label: str  # the searched values, for logs

    def trial(self, seed: int, features: str | None, parent: str | None) -> Trial:
        return Trial(self.model, self.config, self.training, seed, features, parent)


@dataclass(frozen=True)
class Space:
    """An entry of the ladder, or a prior: a model, and for each key a value or the values to search."""

    name: str  # of the entry or prior in params.yaml
    family: Family
    model: str
    keys: dict[str, Any]
    samples: int | None  # draws of the sampled keys; None where none is sampled

    @property
    def where(self) -> str:
        return f"params.yaml: {SECTIONS[self.family]}.{self.name}"

    @property
    def sampled(self) -> list[str]:
        return [key for key, value in self.keys.items() if isinstance(value, dict)]

    @property
    def searched(self) -> list[str]:
        return [key for key, value in self.keys.items() if isinstance(value, dict | list)]

    @property
    def fixed(self) -> Point:
        """The values of the keys that are not searched."""
        return {key: _listed(value) for key, value in self.keys.items() if key not in self.searched}

    def values(self, key: str) -> list[Any]:
        """What a hyperparameter may be: its default, what is set, or all that is searched; of a range its ends."""
        fields = registry.find(self.family, self.model).Config.model_fields
        value = self.keys.get(key, fields[key].default if key in fields else None)
        value = next(iter(value.values())) if isinstance(value, dict) else value
        return value if isinstance(value, list) else [value]

    def __len__(self) -> int:
        """How many points a grid or random search has."""
        return (self.samples or 1) * math.prod(len(value) for value in self.keys.values() if isinstance(value, list))

    def points(self, seed: int) -> Iterator[Point]:
        """The grid, each point with every joint draw of the sampled keys."""
        grid = [[(key, item) for item in value] for key, value in self.keys.items() if isinstance(value, list)]
        draws = [
            {key: _draw(self.keys[key], f"{seed}/{self.name}/{key}/{j}") for key in self.sampled}
            for j in range(self.samples or 1)
        ]
        return (self.fixed | dict(choice) | draw for choice in itertools.product(*grid) for draw in draws)

    def configuration(self, point: Point, defaults: TrainingConfig) -> Configuration:
        """Raises InputError where a value breaks a rule of the model or of its training."""
        found = registry.find(self.family, self.model)
        config = {key: value for key, value in point.items() if key in found.Config.model_fields}
        training = None
        if not found.closed_form:
            overrides = {key: value for key, value in point.items() if key in TrainingConfig.model_fields}
            overrides |= {"augment": []} if self.family == "priors" else {}  # codes are those of augmented images
            training = checked(TrainingConfig, defaults.model_dump() | overrides, self.where).model_dump()
        label = " ".join(f"{key}={_short(point[key])}" for key in self.searched)
        return Configuration(self.model, checked(found.Config, config, self.where).model_dump(), training, label)


def space(name: str, content: dict[str, Any], family: Family = "models") -> Space:
    """An entry of the ladder or a prior of params.yaml; its points are checked later.

    Raises:
        InputError: it names an unknown model or key, or its search space breaks a rule.
    """
    keys = {key: value for key, value in content.items() if key not in BESIDE[family]}
    model = content.get("model", name)
    made = Space(name, family, model, keys, content.get("samples"))
    if not isinstance(model, str):
        raise InputError(f"{made.where}: model must be a valid string, but got {model!r}")
    found = _found(made)
    keys |= {key: _value(value) for key, value in keys.items() if _takes_list(found, key)}
    for key, value in keys.items():
        _check(key, value, found, made)
    for key in keys:
        _check_effect(key, found, made)
    if bool(made.sampled) != (made.samples is not None):
        rule = "must say how many draws to take where a key is sampled, and only there"
        got = ", ".join(made.sampled) or "none"
        raise InputError(f"{made.where}.samples {rule}, but got {made.samples!r} with {got} sampled")
    if made.sampled and (not isinstance(made.samples, int) or made.samples < 1):
        raise InputError(f"{made.where}.samples must be a whole number of at least 1, but got {made.samples!r}")
    return made


def _takes_list(found: type[Model], key: str) -> bool:
    """Whether a value of `key` is itself a list, such as that of augmentations."""
    fields = TrainingConfig.model_fields | found.Config.model_fields
    return key in fields and get_origin(fields[key].annotation) is list


def _value(value: Any) -> Any:
    """Of a key whose values are lists: one of them, a tuple here, or a list of such lists, which is a grid."""
    is_one = isinstance(value, list) and not any(isinstance(each, list) for each in value)
    return tuple(value) if is_one else value


def _found(made: Space) -> type[Model]:
    try:
        return registry.find(made.family, made.model)
    except InputError as error:
        raise InputError(f"{made.where}: {error}") from None


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check(key: str, value: Any, found: type[Model], made: Space) -> None:
    where = made.where
    training = [name for name in TrainingConfig.model_fields if name != "augment" or made.family == "models"]
    keys = [*found.Config.model_fields, *([] if found.closed_form else training)]
    if key not in keys:
        raise InputError(f"{where}: unknown key {key!r}; the keys of {made.model} are {', '.join(keys)}")
    if isinstance(value, list | dict) and not is_searchable(found.Config, key):
        raise InputError(
            f"{where}.{key} must be one value, because results under different ones do not compare, but got {value!r}"
        )
    if value == []:
        raise InputError(f"{where}.{key} must have at least one value to search, but got []")
    if isinstance(value, dict):
        _check_sampler(f"{where}.{key}", value)


def _check_effect(key: str, found: type[Model], made: Space) -> None:
    """Trials that differ in what has no effect would be the same one, trained several times."""
    field = found.Config.model_fields.get(key)
    for mark in field.metadata if field else []:
        if isinstance(mark, OnlyWith) and not any(value in mark.values for value in made.values(mark.key)):
            got = " or ".join(map(str, made.values(mark.key)))
            rule = f"has an effect only where {mark.key} is {mark.words}"
            raise InputError(f"{made.where}.{key} {rule}, but {mark.key} is {got}: leave {key} out, or set {mark.key}")


def _check_sampler(where: str, value: dict[str, Any]) -> None:
    if len(value) != 1 or next(iter(value)) not in SAMPLERS:
        raise InputError(f"{where} must be a value, a list or one of {', '.join(SAMPLERS)}, but got {value!r}")
    ((sampler, bounds),) = value.items()
    if not isinstance(bounds, list) or not bounds:
        raise InputError(f"{where}.{sampler} must be a list with at least one value, but got {bounds!r}")
    if sampler == "choice":
        return
    if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds) or bounds[0] >= bounds[1]:
        raise InputError(f"{where}.{sampler} must be [low, high] with low < high, but got {bounds!r}")
    if sampler == "loguniform" and bounds[0] <= 0:
        raise InputError(f"{where}.loguniform must have low > 0, but got {bounds!r}")


def _draw(value: dict[str, list[Any]], name: str) -> Any:
    ((sampler, bounds),) = value.items()
    random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    draws: dict[str, Callable[[], Any]] = {
        "uniform": lambda: float(random.uniform(*bounds)),
        "loguniform": lambda: math.exp(random.uniform(math.log(bounds[0]), math.log(bounds[1]))),
        "choice": lambda: bounds[random.integers(len(bounds))],
    }
    return draws[sampler]()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
