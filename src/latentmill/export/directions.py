"""Directions in the latent space for the sliders of an application: their names, vectors and ranges."""

from typing import Any

import numpy as np

from latentmill.data.preparation.sufficiency import MOST_SLIDERS, RARE

COMPONENTS = 5  # at most
REACH = 3.0  # standard deviations of the codes, in both directions


def spread(codes: np.ndarray) -> dict[str, list[float]]:
    """Mean and deviation of the codes (N, d) of the training images, by dimension."""
    return {"mean": _plain(codes.mean(0)), "deviation": _plain(codes.std(0))}


def directions(
    codes: np.ndarray, labels: np.ndarray | None = None, classes: list[str] | None = None
) -> list[dict[str, Any]]:
    """Directions in codes (N, d): toward each of the `classes`, which `labels` (N) index, and principal components.

    A code plus t times `vector` is what to decode, for t from `low` to `high`. A class's vector leads from the mean
    of all codes to the mean of its own (Larsen et al. 2016); a component's is one standard deviation long, and
    `explains` that share of the variance.
    """
    centred = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    toward = [] if labels is None or classes is None else _classes(centred, labels, classes)
    return [*toward, *_components(centred)]


def class_counts(labels: np.ndarray, classes: list[str]) -> list[tuple[str, int]]:
    """Each of the `classes`, with how many of `labels` (N), indices into them, it has."""
    counts = np.bincount(labels, minlength=len(classes))
    return [(name, int(count)) for name, count in zip(classes, counts, strict=True)]


def _classes(centred: np.ndarray, labels: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    counts = class_counts(labels, classes)
    if len(classes) > MOST_SLIDERS or sum(count > 0 for _, count in counts) < 2:
        return []
    return [
        _direction(f"toward {name}", centred[labels == index].mean(0), 1.5, None)
        for index, (name, count) in enumerate(counts)
        if count >= RARE
    ]


def _components(centred: np.ndarray) -> list[dict[str, Any]]:
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    shares = variances / max(variances.sum(), 1e-12)
    found = []
    for number, (variance, share, vector) in enumerate(zip(variances, shares, vectors.T, strict=True)):
        turned = vector * np.sign(vector[np.abs(vector).argmax()])  # the same sign on every machine
        rank = len(variances) - number
        found.append(_direction(f"component {rank}", turned * np.sqrt(max(variance, 0)), REACH, float(share)))
    return found[::-1][:COMPONENTS]


def _direction(name: str, vector: np.ndarray, reach: float, explains: float | None) -> dict[str, Any]:
    return {"name": name, "vector": _plain(vector), "low": -reach, "high": reach, "explains": explains}


def _plain(values: np.ndarray) -> list[float]:
    """For JSON, with the precision of float32."""
    return [float(f"{value:.7g}") for value in values]
