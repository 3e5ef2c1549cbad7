"""Which image goes to which split: at random, whole groups together, or as the source says."""

from collections.abc import Sequence
from math import floor

import numpy as np

from latentmill.config import DataConfig
from latentmill.data.collection import Item
from latentmill.data.dataset import SPLITS
from latentmill.errors import InputError

Rows = dict[str, np.ndarray]  # split -> int64 indices


def split(items: Sequence[Item], config: DataConfig) -> Rows:
    """The indices of `items` in each split; those that the source puts into a split stay there, in order.

    Of a split that the source does not have, `config.val` and `config.test` say how large a share it gets of the
    images that are not in val or test already. Images of one group are in one split.

    Raises:
        InputError: the fractions leave nothing to train on, or the source has one group in several splits.
    """
    placed = {name: _rows(items, name) for name in SPLITS}
    pool = np.array([row for row, item in enumerate(items) if item.split in (None, "train")], np.int64)
    missing = {name: getattr(config, name) for name in ("val", "test") if not len(placed[name])}
    if sum(missing.values()) >= 1:
        got = " + ".join(map(str, missing.values()))
        rule = f"{' + '.join(f'data.{name}' for name in missing)} must be less than 1, to leave some to train on"
        raise InputError(f"{rule}, but got {got}")
    counts = {name: floor(len(pool) * share + 0.5) for name, share in missing.items()}
    found = dealt(grouped_rows(items, pool), counts, config.seed)
    rows = {name: found.get(name, placed[name]) for name in SPLITS}
    _require_groups_apart(items, rows)
    return rows


def numbered_groups(items: Sequence[Item]) -> np.ndarray | None:
    """The number of each item's group, int64 (N), one of its own for an item without; None where none has any."""
    if all(item.group is None for item in items):
        return None
    found = np.empty(len(items), np.int64)
    for number, rows in enumerate(grouped_rows(items, np.arange(len(items)))):
        found[rows] = number
    return found


def _rows(items: Sequence[Item], name: str) -> np.ndarray:
    return np.array([row for row, item in enumerate(items) if item.split == name], np.int64)


def grouped_rows(items: Sequence[Item], pool: np.ndarray) -> list[np.ndarray]:
    """The rows of the pool that belong together; a row without a group is one of its own."""
    by_group: dict[str | int, list[int]] = {}
    for row in pool.tolist():
        group = items[row].group
        by_group.setdefault(row if group is None else group, []).append(row)
    return [np.array(rows, np.int64) for rows in by_group.values()]


def dealt(groups: list[np.ndarray], counts: dict[str, int], seed: int) -> Rows:
    """Whole groups in random order: to test until it has its count, then to val, and all others to train."""
    order = np.random.default_rng(seed).permutation(len(groups))
    sizes = np.cumsum([0] + [len(groups[index]) for index in order])
    rows, start = {}, 0
    for name in ("test", "val"):
        end = int(np.searchsorted(sizes, sizes[start] + counts.get(name, 0)))  # the next groups that are enough for it
        rows[name] = _joined([groups[index] for index in order[start:end]])
        start = end
    rows["train"] = _joined([groups[index] for index in order[start:]])
    return {name: found for name, found in rows.items() if name == "train" or name in counts}


def _joined(groups: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.array([], np.int64), *groups])


def _require_groups_apart(items: Sequence[Item], rows: Rows) -> None:
    seen: dict[str, str] = {}
    for name in SPLITS:
        for row in rows[name].tolist():
            group = items[row].group
            if group is not None and seen.setdefault(group, name) != name:
                rule = "a group must not stand in several splits"
                raise InputError(f"data.group: {rule}, but {group!r} is in {seen[group]} and {name} of the source")
