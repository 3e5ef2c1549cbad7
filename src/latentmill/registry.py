"""Models and priors by their names in params.yaml, which are those of their files."""

import importlib
import pkgutil
from functools import cache
from typing import Literal

from latentmill import models, priors
from latentmill.contract import IndexPrior, Model
from latentmill.errors import InputError
from latentmill.networks import Shape

Family = Literal["models", "priors"]
PACKAGES = {"models": models, "priors": priors}
CALLED = {"models": "a model", "priors": "a prior"}


def names(family: Family) -> list[str]:
    """The names of all of a family, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(PACKAGES[family].__path__))


@cache
def find(family: Family, name: str) -> type[Model]:
    """The class in `<family>/<name>.py`.

    Raises:
        InputError: there is none.
    """
    if name not in names(family):
        raise InputError(f"{CALLED[family]} must be one of {', '.join(names(family))}, but got {name!r}")
    module = importlib.import_module(f"{PACKAGES[family].__name__}.{name}")
    (found,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Model) and item.__module__ == module.__name__
    )
    return found


def build(
    family: Family, name: str, config: dict[str, object], shape: Shape, classes: int = 0, entries: int = 0
) -> Model:
    """An untrained one for examples of a shape; `config` holds hyperparameters that its `Config` has checked.

    `entries` is the size of the codebook, for a prior of code indices.
    """
    found = find(family, name)
    checked = found.Config.model_validate(config)
    if issubclass(found, IndexPrior):
        return found(checked, shape, classes, entries)
    return found(checked, shape, classes)
