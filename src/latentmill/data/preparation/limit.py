"""Some of the images of a collection, drawn so that no split that the source has loses its share."""

from collections.abc import Sequence
from math import floor

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.collection import Collection, Item
from latentmill.errors import InputError

MIN_IMAGES = 2  # a split; below that it has no spread


def limited(collection: Collection, config: DataConfig) -> Collection:
    """At most `config.limit` of the items, drawn at random, in their order; of each split in proportion.

    Raises:
        InputError: the limit leaves some split of the source fewer than `MIN_IMAGES`.
    """
    count = len(collection.items)
    if config.limit is None or count <= config.limit:
        return collection
    rng = np.random.default_rng(config.seed)
    parts = _parts(collection.items)
    shares = _shares([len(part) for part in parts], config.limit)
    drawn = [part[rng.choice(len(part), share, replace=False)] for part, share in zip(parts, shares, strict=True)]
    return collection.chosen(np.sort(np.concatenate(drawn)).tolist())


def _parts(items: Sequence[Item]) -> list[np.ndarray]:
    """The rows of each split that the source has; None is one of them."""
    by_split: dict[str | None, list[int]] = {}
    for row, item in enumerate(items):
        by_split.setdefault(item.split, []).append(row)
    return [np.array(rows, np.int64) for rows in by_split.values()]


def _shares(counts: list[int], limit: int) -> list[int]:
    """So many of each of `counts`, together `limit`: in proportion, but for the least that each needs."""
    least = [min(MIN_IMAGES, count) for count in counts]
    if len(counts) > 1 and sum(least) > limit:
        rule = f"data.limit must leave each of {len(counts)} splits {MIN_IMAGES} images"
        raise InputError(f"{rule}, so be at least {sum(least)}, but is {limit}")
    if len(counts) == 1:
        return [limit]
    exact = [limit * count / sum(counts) for count in counts]
    shares = [max(fewest, floor(share)) for fewest, share in zip(least, exact, strict=True)]
    while sum(shares) != limit:  # at most by as many as there are splits
        step = 1 if sum(shares) < limit else -1
        short = [step * (share - given) for share, given in zip(exact, shares, strict=True)]
        may = [place for place, given in enumerate(shares) if least[place] <= given + step <= counts[place]]
        shares[max(may, key=lambda place: short[place])] += step
    return shares
