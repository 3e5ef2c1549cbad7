"""Where images come from: one module a source, each with `files(config)` and `load(config)`."""

from dataclasses import replace
from pathlib import Path

from latentmill.config import DataConfig
from latentmill.data.collection import Collection
from latentmill.data.sources import archive, arrays, bundled, fashion_mnist, folder, sprites, table
from latentmill.data.sources.settings import require_followed
from latentmill.errors import InputError
from latentmill.runtime.text import plural

SOURCES = {
    "folder": folder,
    "archive": archive,
    "table": table,
    "arrays": arrays,
    "mnist-5k": bundled,
    "digits": bundled,
    "fashion-mnist": fashion_mnist,
    "sprites": sprites,
}


def load(config: DataConfig) -> Collection:
    """The collection that `config` names, images not yet decoded where they are files.

    Raises:
        InputError: there is no such collection, it holds no image, or `config` has what the source can't follow.
    """
    require_followed(config)
    collection: Collection = SOURCES[config.source].load(config)
    if not collection.items:
        out = collection.dropped
        found = f"; of {plural(len(out), 'file')} left out, the first is {out[0].name}: {out[0].reason}" if out else ""
        raise InputError(f"{collection.description} must hold at least 1 image, but holds none{found}")
    if config.label is None:
        collection = replace(collection, items=[replace(item, label=None) for item in collection.items])
    return collection


def files(config: DataConfig) -> list[str | Path]:
    """Every file that the images come from: where one of them changes, the data is prepared anew.

    Raises:
        InputError: data.path is missing or is not what the source needs, or `config` has what it can't follow.
    """
    require_followed(config)
    found: list[str | Path] = SOURCES[config.source].files(config)
    return found
