"""A user's own images as one array: a .npy file, or a .npz file that may hold labels and groups beside them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.collection import Array, Bytes, Collection, Item, Pixels
from latentmill.data.numpy_files import read_npy, read_npz
from latentmill.data.sources.paths import required_path
from latentmill.errors import InputError
from latentmill.runtime.levels import white_level

CHANNELS = (1, 2, 3, 4)  # grey, grey and alpha, colour, colour and alpha
BLOCK = 1_000  # images looked at or converted at a time
NAMES = ("images", "labels", "groups")


@dataclass
class ArrayImages(Pixels):
    """Images of any numeric type, converted to bytes a block at a time."""

    array: Array = field(kw_only=True)  # N×C×H×W, a view of what the file holds
    white: float = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.array.shape[1:]
        return channels, height, width

    def block(self, rows: np.ndarray) -> Bytes:
        chosen = self.array[rows]
        if self._is_stored:
            return np.ascontiguousarray(chosen)
        return np.rint(chosen.astype(np.float64) * (255 / self.white)).astype(np.uint8)

    def stored(self) -> tuple[Bytes, np.ndarray] | None:
        return (self.array, np.arange(len(self.array))) if self._is_stored else None

    @property
    def _is_stored(self) -> bool:
        return self.array.dtype == np.uint8 and self.white == 255


def files(config: DataConfig) -> list[Path]:
    """What the images depend on.

    Raises:
        InputError: there is no such file.
    """
    path = required_path(config, "a .npy or .npz file")
    if not path.exists():
        raise InputError(f"{path} must exist, but there is no such file")
    return [path]


def load(config: DataConfig) -> Collection:
    """The images of a .npy file, or of a .npz file that may hold `labels` and `groups`, N each, beside `images`.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    (path,) = files(config)
    return collection(_read(path), str(path), f"images of the user, from {path}", config.white)


def collection(content: dict[str, Array], where: str, description: str, white: int | None = None) -> ArrayImages:
    """The images of `content`, with its `labels` and `groups` if any; `where` names it in errors and names of images.

    Raises:
        InputError: they are no images, or the labels or groups do not suit them.
    """
    array = channels_first(content["images"], f"{where}: images")
    _require_some(array, where)
    level = white_level(array.dtype, *_range(array), f"{where}: images", white)
    labels, groups = (_names(content, key, len(array), where) for key in ("labels", "groups"))
    name = Path(where).name
    names = zip(labels, groups, strict=True)
    items = [Item(f"{name}[{row}]", *each) for row, each in enumerate(names)]
    return ArrayImages(description, items, array=array, white=level)


def channels_first(array: Array, where: str) -> Array:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) as N×C×H×W.

    Raises:
        InputError: the shape is another, or both axes might be that of the channels.
    """
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise InputError(f"{where} must be (N, H, W), (N, C, H, W) or (N, H, W, C), but got shape {array.shape}")
    first, last = (array.shape[axis] in CHANNELS for axis in (1, 3))
    if first == last:
        rule = "must have 1 to 4 channels on the second or the last axis, and not on both"
        raise InputError(f"{where} {rule}, but got shape {array.shape}")
    return array if first else np.moveaxis(array, 3, 1)


def _read(path: Path) -> dict[str, Array]:
    if path.suffix == ".npy":
        return {"images": read_npy(path)}
    if path.suffix != ".npz":
        raise InputError(f"data.path must end in .npy or .npz for the source arrays, but got {str(path)!r}")
    content = read_npz(path)
    if "images" not in content or not content.keys() <= set(NAMES):
        raise InputError(f"{path} must hold 'images' and at most 'labels' and 'groups', but holds {sorted(content)}")
    return content


def _require_some(array: Array, path: str) -> None:
    if array.dtype.kind not in "buif":
        raise InputError(f"{path}: images must be booleans, integers or floats, but got dtype {array.dtype}")
    if len(array) == 0:
        raise InputError(f"{path} must hold at least 1 image, but holds 0")
    if min(array.shape[2:]) == 0:
        raise InputError(f"{path}: images must have at least 1 pixel, but got shape {array.shape}")


def _range(array: Array) -> tuple[float, float]:
    """The least and the largest value; NaN where there is one."""
    blocks = [array[start : start + BLOCK] for start in range(0, len(array), BLOCK)]
    found = np.array([(block.min(), block.max()) for block in blocks])
    return found[:, 0].min().item(), found[:, 1].max().item()


def _names(content: dict[str, Array], key: str, count: int, path: str) -> list[str | None]:
    """The labels or groups as text: None for each image where the file has none."""
    if key not in content:
        return [None] * count
    values = content[key]
    if values.ndim == 2 and values.shape[0] == count and values.shape[1] > 1:
        hint = f"if they are one-hot, save {key}.argmax(1)"
        raise InputError(f"{path}: {key} must have shape ({count},), one an image, but got {values.shape}; {hint}")
    if values.shape != (count,):
        raise InputError(f"{path}: {key} must have shape ({count},), one an image, but got {values.shape}")
    if values.dtype.kind == "f":
        values = _whole(values, key, path)
    if values.dtype.kind not in "biuUS":
        raise InputError(f"{path}: {key} must be text or whole numbers, but got dtype {values.dtype}")
    return [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values.tolist()]


def _whole(values: Array, key: str, path: str) -> Array:
    whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
    if not whole.all():
        raise InputError(f"{path}: {key} must be text or whole numbers, but got {values[~whole][0]}")
    return values.astype(np.int64)
