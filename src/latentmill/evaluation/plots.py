"""The tables behind DVC's plots, one row a point."""

import csv
import io
from collections.abc import Iterable

import numpy as np

from latentmill.evaluation.entry import Findings

BINS = 60


def distances_csv(found: dict[tuple[str, str], Findings], test: np.ndarray) -> str:
    """Histograms of the distance to the nearest training image, of test images and of each entry's samples."""
    sets = {"test images": test}
    sets |= {f"{entry}, {route}": of.distances for (entry, route), of in found.items() if of.distances is not None}
    edges = np.linspace(0, max(distances.max() for distances in sets.values()) or 1.0, BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    rows = (
        (name, f"{centre:.4f}", f"{count / len(distances):.6f}")
        for name, distances in sets.items()
        for centre, count in zip(centres, np.histogram(distances, edges)[0], strict=True)
    )
    return _csv(("entry", "distance", "share"), rows)


def kl_csv(found: dict[tuple[str, str], Findings]) -> str:
    """KL of each latent dimension, by rank, of the entries that have one."""
    rows = (
        (entry, rank, f"{nats:.5f}")
        for (entry, _), of in found.items()
        if of.kl is not None
        for rank, nats in enumerate(np.sort(of.kl)[::-1], start=1)
    )
    return _csv(("entry", "rank", "nats"), rows)


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
