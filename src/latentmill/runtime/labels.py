"""Labels of a conditional model: names of classes for callers, indices of classes for the graphs."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime.facts import Facts
from latentmill.runtime.text import listed

Label = str | Sequence[str] | None  # a class for all rows, or one for each row


def label_indices(classes: tuple[str, ...], label: Label, rows: int) -> np.ndarray | None:
    """The indices of the labels of `rows` rows, int64 (rows), or None for a model without classes.

    Raises:
        InputError: the model has classes and no label is given, or the reverse; a label is no class; or there are
            neither one nor as many as rows.
    """
    if not classes:
        if label is not None:
            raise InputError(f"a label must be left out, because the model has no classes, but got {str(label)[:40]!r}")
        return None
    names: list[Any] = [label] if isinstance(label, str) or not isinstance(label, Iterable) else list(label)
    known = {name: at for at, name in enumerate(classes)}
    for name in names:
        if not isinstance(name, str) or name not in known:
            got = "none is given" if name is None else f"got {str(name)[:40]!r}"
            raise InputError(f"a label must be one of {listed(classes)}, but {got}")
    if not isinstance(label, str) and len(names) != rows:
        rule = f"a label must be one of {listed(classes)}, or a list with one for each of {rows} rows"
        raise InputError(f"{rule}, but got {len(names)}")
    indices = np.array([known[name] for name in names], np.int64)
    return np.broadcast_to(indices, (rows,))  # one takes no more memory, however many rows there are


def label_at(label: Label, row: int) -> Label:
    """The label of one row, such as the first, 0, or the last, -1."""
    return label[row] if isinstance(label, list | tuple | np.ndarray) and len(label) else label


class LabelRows(Protocol):
    """Labels, row after row."""

    def rows(self, count: int) -> np.ndarray | None:
        """The indices of the next `count` rows, int64 (count), or None for a model without classes."""


def label_rows(facts: Facts, label: Label, rows: int, seed: int) -> LabelRows:
    """The labels of `rows` images that are drawn: as they are given, or else drawn by their frequency in training.

    Raises:
        InputError: as `label_indices`, but that a label may be left out.
    """
    if facts.classes and label is None:
        return DrawnLabels(facts.counts, seed)
    return GivenLabels(label_indices(facts.classes, label, rows))


class DrawnLabels:
    """Labels by their frequency in training: the same for a seed on every platform, however many at a time.

    Each takes 64 bits of Philox, 2^128 of them beyond those of the noise with the same seed.
    """

    def __init__(self, counts: Sequence[int], seed: int) -> None:
        """`counts` are the training images of each class, fewer than 2^32 in all."""
        self._ends = np.cumsum(counts, dtype=np.uint64)
        self._bits = np.random.Philox(seed).jumped()

    def rows(self, count: int) -> np.ndarray:
        """The indices of the next `count` labels, int64 (count)."""
        upper = self._bits.random_raw(count) >> np.uint64(32)
        image = upper * self._ends[-1] >> np.uint64(32)  # a training image, each equally often, in exact arithmetic
        return np.searchsorted(self._ends, image, side="right").astype(np.int64)


class GivenLabels:
    """Labels that the caller gives, or none."""

    def __init__(self, indices: np.ndarray | None) -> None:
        self._left = indices

    def rows(self, count: int) -> np.ndarray | None:
        """The next `count` of them."""
        if self._left is None:
            return None
        found, self._left = self._left[:count], self._left[count:]
        return found
