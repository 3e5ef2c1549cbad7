"""What a user names, as a collection of images: a path by what lies there, an array, an export, a function."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import DataConfig, checked
from latentmill.data import sources
from latentmill.data.collection import Collection, Item, Loaded
from latentmill.data.dataset import MANIFEST, SPLITS
from latentmill.data.sources.arrays import collection
from latentmill.data.sources.paths import possible_path
from latentmill.data.sources.recognition import recognised
from latentmill.errors import InputError
from latentmill.evaluation.assembly import SAMPLES as COUNT
from latentmill.judging.prepared import prepared_images
from latentmill.judging.renaming import ArgumentError, names, renamed
from latentmill.runtime.decoder import Decoder
from latentmill.runtime.folder import CARD
from latentmill.runtime.folder import MANIFEST as EXPORT

Images = str | Path | np.ndarray | Mapping[str, np.ndarray]  # the latter as in an .npz: images, labels, groups
Generate = Callable[[int], Any]  # how many -> images, at least one and as many as are needed, or fewer
Samples = Images | Decoder | Generate
BATCH = 1_000  # images that a generator makes at a time
LABEL = "data.label"  # what the sources call the labels


def images(given: Images, name: str, label: str | int | None = "auto") -> Collection:
    """The images that are `given`, not yet decoded where they are files; errors call them `name`.

    `label` is the column, or the level of folders, that names classes.

    Raises:
        InputError: there are none.
    """
    _require_name(given, name)
    with _named(name):
        if isinstance(given, str | Path):
            return _at(str(given), label)
        content = given if isinstance(given, Mapping) else {"images": given}
        content = {key: _plain(value) for key, value in content.items()}
        if "images" not in content:
            raise InputError(f"they must have 'images' and may have 'labels' and 'groups', but have {sorted(content)}")
        return collection(content, name, f"an array of {len(content['images'])} images")


def samples(given: Samples, name: str, count: int | None, seed: int) -> Collection:
    """The same, or what a generator makes: `count` images (`COUNT`) of an export of latentmill, or of a function.

    Raises:
        InputError: there are none, or there is a `count` of what is not drawn.
    """
    _require_name(given, name)
    wanted = COUNT if count is None else count
    with _named(name):
        if isinstance(given, str | Path) and (export := _export(Path(given))) is not None:
            given, name = Decoder(export), str(given)
        if isinstance(given, Decoder):
            batches = given.stream(wanted, min(wanted, BATCH), seed)
            return _generated(lambda _: next(batches), f"drawn from {name}, seed {seed}", wanted)
        if callable(given):
            return _generated(given, "drawn from a function", wanted)
    found = images(given, name, label=None)
    if count is not None:
        rule = "count must be left out for samples that are not drawn from an export or a function"
        raise ArgumentError(f"{rule}, but got {count}: all samples are judged", "count", "count")
    return found


def _require_name(given: Any, name: str) -> None:
    """Raises: InputError: it is an empty text, as of a variable of the shell that is not set."""
    if isinstance(given, str) and not given:
        raise InputError(f"{name} must name a folder or file, but got an empty name")


def _at(given: str, label: str | int | None) -> Collection:
    path = possible_path(given)
    if (path / MANIFEST).is_file() and (path / f"{SPLITS[0]}.npy").is_file():
        return prepared_images(path)
    found = recognised(given)
    config = checked(DataConfig, found | {"label": label}, given)
    if "path" not in found:
        sources.files(config)  # raises where a package is missing
    return sources.load(config)


def _export(path: Path) -> Path | None:
    """The folder of an export, that `path` is or that its graph lies in; None where it is none."""
    folder = path.parent if path.suffix == ".onnx" else path
    is_export = (folder / EXPORT).is_file() and (folder / CARD).is_file()
    if path.suffix == ".onnx" and not is_export:
        raise InputError(
            f"a generator must lie in its export, with {EXPORT} and {CARD}: else draw its samples yourself"
        )
    return folder if is_export else None


def _generated(generate: Generate, description: str, count: int) -> Loaded:
    """`count` images of `generate`, in memory."""
    made: list[np.ndarray] = []
    while (have := sum(map(len, made))) < count:
        some = collection({"images": _plain(generate(min(BATCH, count - have)))}, "samples", description)
        made.append(some.block(np.arange(min(len(some.items), count - have))))
        if made[-1].shape[1:] != made[0].shape[1:]:
            raise InputError(f"all must have one shape, but got {made[0].shape[1:]} and {made[-1].shape[1:]}")
    items = [Item(f"sample {row}") for row in range(count)]
    return Loaded(description, items, images=np.concatenate(made))


def _plain(array: Any) -> np.ndarray:
    """As NumPy's; of torch also where it lies on a GPU or has a gradient."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of the sources begin with what the user calls these images, not with a key of params.yaml."""
    try:
        yield
    except InputError as error:
        text = renamed(str(error), "data.path", "the path")
        text = text if text.startswith((f"{name} ", f"{name}: ")) else f"{name}: {text}"
        raise (ArgumentError(text, "labels", LABEL) if names(text, LABEL) else InputError(text)) from None
