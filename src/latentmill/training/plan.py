"""From a ladder entry of params.yaml to its trials.

A list is a grid; {uniform: [low, high]}, {loguniform: [low, high]} and {choice: [...]} are sampled, `samples`
times for each point of the grid. Draw j of a key depends on the seed, the entry, the key and j alone, so that one
more value in a grid leaves the trials that are already trained as they were.
"""

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentmill import variants
from latentmill.config import Params, TrainingConfig, checked, is_searchable
from latentmill.errors import InputError
from latentmill.training.trials import Trial

Space = dict[str, Any]
SAMPLERS = ("uniform", "loguniform", "choice")


@dataclass(frozen=True)
class Planned:
    """A trial and the ladder entry that asks for it."""

    entry: str
    trial: Trial
    label: str  # the entry and what tells this trial from its others, to be read in a log


def plan(params: Params) -> list[Planned]:
    """Every trial of every entry of the ladder, in its order.

    Raises:
        InputError: an entry names an unknown variant or key, or a search space breaks a rule.
    """
    return [planned for entry, space in params.ladder.items() for planned in _plan_entry(entry, space, params)]


def _plan_entry(entry: str, space: Space, params: Params) -> list[Planned]:
    where = f"params.yaml: ladder.{entry}"
    space = dict(space)
    variant, samples = space.pop("variant", entry), space.pop("samples", None)
    keys = _keys(variant, where)
    for key, value in space.items():
        _check(key, value, keys, variant, where)
    searched = [key for key, value in space.items() if isinstance(value, list | dict)]
    return [
        Planned(entry, _trial(variant, point, params, seed, where), _label(entry, point, searched, seed))
        for point in _points(entry, space, samples, params.sweep.sampling_seed, where)
        for seed in params.sweep.seeds
    ]


def _label(entry: str, point: Space, searched: list[str], seed: int) -> str:
    told = [f"{key}={point[key]:.4g}" if isinstance(point[key], float) else f"{key}={point[key]}" for key in searched]
    return " ".join([entry, *told, *([f"seed={seed}"] if seed else [])])


def _keys(variant: str, where: str) -> list[str]:
    try:
        found = variants.find(variant)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return [*found.Config.model_fields, *([] if found.closed_form else TrainingConfig.model_fields)]


def _check(key: str, value: Any, keys: list[str], variant: str, where: str) -> None:
    if key not in keys:
        raise InputError(f"{where}: unknown key {key!r}; the keys of {variant} are {', '.join(keys)}")
    if isinstance(value, list | dict) and not is_searchable(variants.find(variant).Config, key):
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


def _points(entry: str, space: Space, samples: Any, seed: int, where: str) -> list[Space]:
    """The points of the search space: the grid, each point with every joint draw of the sampled keys."""
    sampled = [key for key, value in space.items() if isinstance(value, dict)]
    if bool(sampled) != (samples is not None):
        rule = "must say how many draws to take where a key is sampled, and only there"
        raise InputError(f"{where}.samples {rule}, but got {samples!r} with {', '.join(sampled) or 'none'} sampled")
    if sampled and (not isinstance(samples, int) or samples < 1):
        raise InputError(f"{where}.samples must be a whole number of at least 1, but got {samples!r}")
    grid = [
        [(key, item) for item in value] if isinstance(value, list) else [(key, value)] for key, value in space.items()
    ]
    points = [dict(choice) for choice in itertools.product(*grid)]
    return [
        point | {key: _draw(space[key], f"{seed}/{entry}/{key}/{j}") for key in sampled}
        for point in points
        for j in range(samples or 1)
    ]


def _draw(value: dict[str, list[Any]], name: str) -> Any:
    ((sampler, bounds),) = value.items()
    random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    draws: dict[str, Callable[[], Any]] = {
        "uniform": lambda: float(random.uniform(*bounds)),
        "loguniform": lambda: math.exp(random.uniform(math.log(bounds[0]), math.log(bounds[1]))),
        "choice": lambda: bounds[random.integers(len(bounds))],
    }
    return draws[sampler]()


def _trial(variant: str, point: Space, params: Params, seed: int, where: str) -> Trial:
    found = variants.find(variant)
    model = {key: value for key, value in point.items() if key in found.Config.model_fields}
    overrides = {key: value for key, value in point.items() if key in TrainingConfig.model_fields}
    training = checked(TrainingConfig, params.training.model_dump() | overrides, where)
    return Trial(
        variant,
        checked(found.Config, model, where).model_dump(),
        None if found.closed_form else training.model_dump(),
        seed,
    )
