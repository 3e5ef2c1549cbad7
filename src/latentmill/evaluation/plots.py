"""The tables for DVC's plots, one row per point."""

import csv
import io
from collections.abc import Iterable

import numpy as np

from latentmill.evaluation.entry import EvaluationResult

BINS = 60


def distances_csv(results: dict[tuple[str, str], EvaluationResult], test: np.ndarray) -> str:
    """Histograms of the distance to the nearest training image, of test images and of each entry's samples."""
    sets = {"test images": test}
    found = {f"{entry}, {prior}": each.distances for (entry, prior), each in results.items()}
    sets |= {name: distances for name, distances in found.items() if distances is not None}
    edges = np.linspace(0, max(distances.max() for distances in sets.values()) or 1.0, BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    rows = (
        (name, f"{centre:.4f}", f"{count / len(distances):.6f}")
        for name, distances in sets.items()
        for centre, count in zip(centres, np.histogram(distances, edges)[0], strict=True)
    )
    return _csv(("entry", "distance", "share"), rows)


def kl_csv(results: dict[tuple[str, str], EvaluationResult]) -> str:
    """KL of each latent dimension, by rank, of the entries that have one."""
    rows = (
        (entry, rank, f"{nats:.5f}")
        for (entry, _), each in results.items()
        if each.kl is not None
        for rank, nats in enumerate(np.sort(each.kl)[::-1], start=1)
    )
    return _csv(("entry", "rank", "nats"), rows)


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
