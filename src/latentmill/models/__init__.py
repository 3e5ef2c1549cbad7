"""The variants, one file each; a file's name is the variant's name in params.yaml."""

import importlib
import pkgutil
from functools import cache

from latentmill.contract import Model
from latentmill.errors import InputError
from latentmill.networks import ImageShape


def names() -> list[str]:
    """The names of all variants, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def find(name: str) -> type[Model]:
    """The class of the variant `name`: the one in `variants/<name>.py`.

    Raises:
        InputError: there is no such variant.
    """
    if name not in names():
        raise InputError(f"a variant must be one of {', '.join(names())}, but got {name!r}")
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Model) and item.__module__ == module.__name__
    )
    return found


def build(name: str, config: dict[str, object], image_shape: ImageShape) -> Model:
    """An untrained model of the variant `name`; `config` holds hyperparameters that its `Config` has checked."""
    variant = find(name)
    return variant(variant.Config.model_validate(config), image_shape)
