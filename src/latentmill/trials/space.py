"""The search space of one ladder entry of params.yaml, checked, and the points to try in it.

A list is a grid; {uniform: [low, high]}, {loguniform: [low, high]} and {choice: [...]} are sampled, `samples`
times for each point of the grid. Draw j of a key depends on the seed, the entry, the key and j alone, so that one
more value in a grid leaves the trials that are already trained as they were.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentmill import models
from latentmill.config import TrainingConfig, checked, is_searchable
from latentmill.contract import Model
from latentmill.errors import InputError
from latentmill.trials.trial import Trial

Point = dict[str, Any]  # a value for each key of the entry
SAMPLERS = ("uniform", "loguniform", "choice")


@dataclass(frozen=True)
class Configuration:
    """A point of an entry's space, checked and complete: a trial but for its seed."""

    entry: str
    variant: str
    model: dict[str, Any]
    training: dict[str, Any] | None  # None for a closed-form variant
    label: str  # the entry and what tells this configuration from its others, to be read in a log

    def trial(self, seed: int) -> Trial:
        return Trial(self.variant, self.model, self.training, seed)


@dataclass(frozen=True)
class Space:
    """An entry of the ladder: the variant, and for each key a value or the values to search."""

    entry: str
    variant: str
    keys: dict[str, Any]
    samples: int | None  # draws of the sampled keys; None where none is sampled

    @property
    def sampled(self) -> list[str]:
        return [key for key, value in self.keys.items() if isinstance(value, dict)]

    @property
    def searched(self) -> list[str]:
        return [key for key, value in self.keys.items() if isinstance(value, dict | list)]

    def __len__(self) -> int:
        """How many points a grid or random search has."""
        return (self.samples or 1) * math.prod(len(value) for value in self.keys.values() if isinstance(value, list))

    def points(self, seed: int) -> Iterator[Point]:
        """The grid, each point with every joint draw of the sampled keys."""
        grid = [
            [(key, item) for item in value] if isinstance(value, list) else [(key, value)]
            for key, value in self.keys.items()
        ]
        draws = [
            {key: _draw(self.keys[key], f"{seed}/{self.entry}/{key}/{j}") for key in self.sampled}
            for j in range(self.samples or 1)
        ]
        return (dict(choice) | draw for choice in itertools.product(*grid) for draw in draws)

    def configuration(self, point: Point, defaults: TrainingConfig) -> Configuration:
        """Raises InputError where a value breaks a rule of the variant or of its training."""
        where, found = f"params.yaml: ladder.{self.entry}", models.find(self.variant)
        model = {key: value for key, value in point.items() if key in found.Config.model_fields}
        training = None
        if not found.closed_form:
            overrides = {key: value for key, value in point.items() if key in TrainingConfig.model_fields}
            training = checked(TrainingConfig, defaults.model_dump() | overrides, where).model_dump()
        told = [f"{key}={_short(point[key])}" for key in self.searched]
        checked_model = checked(found.Config, model, where).model_dump()
        return Configuration(self.entry, self.variant, checked_model, training, " ".join([self.entry, *told]))


def space(entry: str, content: dict[str, Any]) -> Space:
    """The entry `ladder.<entry>` of params.yaml, checked as far as a space can be before its points are made.

    Raises:
        InputError: it names an unknown variant or key, or its search space breaks a rule.
    """
    where, keys = f"params.yaml: ladder.{entry}", dict(content)
    variant, samples = keys.pop("variant", entry), keys.pop("samples", None)
    found = _variant(variant, where)
    for key, value in keys.items():
        _check(key, value, found, variant, where)
    made = Space(entry, variant, keys, samples)
    if bool(made.sampled) != (samples is not None):
        rule = "must say how many draws to take where a key is sampled, and only there"
        got = ", ".join(made.sampled) or "none"
        raise InputError(f"{where}.samples {rule}, but got {samples!r} with {got} sampled")
    if made.sampled and (not isinstance(samples, int) or samples < 1):
        raise InputError(f"{where}.samples must be a whole number of at least 1, but got {samples!r}")
    return made


def _variant(name: str, where: str) -> type[Model]:
    try:
        return models.find(name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check(key: str, value: Any, found: type[Model], variant: str, where: str) -> None:
    keys = [*found.Config.model_fields, *([] if found.closed_form else TrainingConfig.model_fields)]
    if key not in keys:
        raise InputError(f"{where}: unknown key {key!r}; the keys of {variant} are {', '.join(keys)}")
    if isinstance(value, list | dict) and not is_searchable(found.Config, key):
        raise InputError(
            f"{where}.{key} must be one value, because results under different ones do not compare, but got {value!r}"
        )
    if value == []:
        raise InputError(f"{where}.{key} must have at least one value to search, but got []")
    if isinstance(value, dict):
        _check_sampler(f"{where}.{key}", value)


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
