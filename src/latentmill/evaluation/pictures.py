"""The evaluation's pictures: grids of images as they are, charts for what is not an image."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentmill.evaluation.neighbours import Neighbours
from latentmill.runtime.images import save

matplotlib.use("agg")  # draws without a screen
COLUMNS = 16
SAMPLE_COLOUR, REFERENCE_COLOUR = "#c8553d", "#5b7db1"


def draw_samples(path: Path, samples: np.ndarray) -> None:
    """The first 64 samples (N, C, H, W), unselected."""
    save(path, samples[:64], columns=COLUMNS)


def draw_pairs(path: Path, above: np.ndarray, below: np.ndarray) -> None:
    """Images of `above` (N, C, H, W), each over its counterpart in `below`, 16 pairs a row."""
    columns = min(COLUMNS, len(above))
    white = np.ones((-len(above) % columns, *above.shape[1:]), np.float32)  # fills the last row
    above, below = np.concatenate([above, white]), np.concatenate([below, white])
    rows = [half[start : start + columns] for start in range(0, len(above), columns) for half in (above, below)]
    save(path, np.concatenate(rows), columns=columns)


def draw_neighbours(path: Path, samples: np.ndarray, nearest: Neighbours, train: np.ndarray) -> None:
    """16 samples as they came, then the 16 closest to the training data, each over its nearest training image."""
    closest = np.argsort(nearest.distances)[:COLUMNS]
    shown = np.concatenate([np.arange(min(COLUMNS, len(samples))), closest])
    draw_pairs(path, samples[shown], train[nearest.indices[shown]].astype(np.float32) / 255)


def draw_interpolations(path: Path, images: np.ndarray) -> None:
    """One row a line through the latent space: (N, steps, C, H, W)."""
    save(path, images.reshape(-1, *images.shape[2:]), columns=images.shape[1])


def draw_distances(path: Path, samples: Neighbours, test: Neighbours) -> None:
    """Histograms of the distance to the nearest training image, of samples and of test images."""
    axes = _axes("distance to the nearest training image", "share of images")
    bins = np.linspace(0, max(samples.distances.max(), test.distances.max()), 60)
    for name, found, colour in (("test images", test, REFERENCE_COLOUR), ("samples", samples, SAMPLE_COLOUR)):
        weights = np.full(len(found.distances), 1 / len(found.distances))
        axes.hist(found.distances, list(bins), weights=weights, color=colour, alpha=0.6, label=name)
    axes.legend(frameon=False)
    _finish(axes, path)


def draw_codes(path: Path, points: np.ndarray, labels: np.ndarray | None) -> None:
    """A map of codes (N, 2), coloured by label where there are labels."""
    axes = _axes("first principal component of the codes", "second")
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=4, color=REFERENCE_COLOUR, linewidths=0)
    for label in [] if labels is None else np.unique(labels):
        x, y = points[labels == label].T
        axes.scatter(x, y, s=5, linewidths=0, label=str(label), color=f"C{label % 10}")
    if labels is not None:
        axes.legend(frameon=False, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    _finish(axes, path)


def draw_kl(path: Path, kl: np.ndarray) -> None:
    """KL of each latent dimension, largest first."""
    axes = _axes("latent dimension, by rank", "KL to N(0, 1) in nats")
    axes.bar(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color=REFERENCE_COLOUR)
    _finish(axes, path)


def _axes(x: str, y: str) -> Axes:
    axes = Figure(figsize=(6, 3.4), layout="constrained").add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _finish(axes: Axes, path: Path) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=110)
