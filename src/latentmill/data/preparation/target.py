"""What the images of a collection are brought to, where params.yaml leaves it open."""

from collections import Counter
from math import gcd

import numpy as np

from latentmill.config import MIN_SIDE, DataConfig
from latentmill.data.collection import Collection, Files, NoImageError, Pixels, UnreadableError
from latentmill.data.preparation.decoding import probe
from latentmill.data.preparation.fitting import Target
from latentmill.errors import InputError

PROBED = 500  # images whose headers are read for the commonest size
COMMON, MANY = 0.05, 40  # share of images that the commonest size must have, where there are so many
LARGEST_SIDE = 512  # pixels, of a size that is not set
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}


def target(collection: Collection, config: DataConfig) -> Target:
    """The shape in `data`, or the commonest size; colour, unless grey is set or known.

    Raises:
        InputError: no image can be read, or no size is common, or the commonest is not one to learn from here.
    """
    height, width = config.size or _commonest(collection, config.seed)
    return Target(_channels(collection, config), height, width, config.fit, config.background)


def _channels(collection: Collection, config: DataConfig) -> int:
    if config.channels != "auto":
        return CHANNELS[config.channels]
    grey_background = len(set(config.background)) == 1
    return 1 if isinstance(collection, Pixels) and collection.shape[0] <= 1 + grey_background else 3


def _commonest(collection: Collection, seed: int) -> tuple[int, int]:
    if isinstance(collection, Pixels):
        size = collection.shape[1:]
    else:
        assert isinstance(collection, Files)
        size = _commonest_of_files(collection, seed)
    height, width = size
    if min(size) < MIN_SIDE:
        raise InputError(
            f"images must be at least {MIN_SIDE} pixels a side, but are {height} by {width}: set data.size"
        )
    if max(size) > LARGEST_SIDE:
        rule = f"data.size must be set for images above {LARGEST_SIDE} pixels a side"
        advice = f"for example data.size: {_advised(height, width)}"
        raise InputError(f"{rule}, but the commonest are {height} by {width}: {advice}")
    return height, width


def _commonest_of_files(collection: Files, seed: int) -> tuple[int, int]:
    """Among some files, drawn at random where that costs nothing; the largest where several are as common."""
    count = len(collection.items)
    rows = range(min(count, PROBED))
    if not collection.in_order and count > PROBED:
        rows = np.sort(np.random.default_rng(seed).choice(count, PROBED, replace=False)).tolist()
    sizes: Counter[tuple[int, int]] = Counter()
    reason = ""
    for row in rows:
        try:
            sizes[probe(collection.read(collection.locators[row]))[::-1]] += 1
        except (UnreadableError, NoImageError) as error:
            reason = reason or f"{collection.items[row].name}: {error}"
    if not sizes:
        raise InputError(f"{collection.description} must hold images, but of {len(rows)} none can be read; {reason}")
    most, seen = max(sizes.values()), sum(sizes.values())
    if seen >= MANY and most < COMMON * seen:
        raise InputError(
            f"data.size must be set where no size is common: the commonest is that of {most} in {seen} images, "
            "for example data.size: 64"
        )
    return max((size for size, number in sizes.items() if number == most), key=lambda size: (size[0] * size[1], size))


def _advised(height: int, width: int) -> str:
    if height == width:
        return "64"
    common = gcd(height, width)
    ratio = max(height, width) / min(height, width)
    sides = [64, round(64 * ratio)] if height < width else [round(64 * ratio), 64]
    return f"{sides}, or 64 for a square crop" if common and ratio < 3 else "64"
