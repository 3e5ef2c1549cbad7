"""The evaluation's pictures: grids of images, which are reduced where they are large, and charts."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import NullLocator
from PIL import Image

from latentmill.data.batches import as_float
from latentmill.data.tiles import tiles
from latentmill.evaluation.copies import relative_distances
from latentmill.evaluation.neighbours import Neighbours
from latentmill.runtime.images import save
from latentmill.runtime.text import one_line

matplotlib.use("agg")  # needs no screen
COLUMNS = 16
CLOSEST = 10
SAMPLE_COLOUR, REFERENCE_COLOUR, BACKGROUND_COLOUR = "#c8553d", "#5b7db1", "#d0d0d0"
# Of classes: matplotlib's ten, then the lighter half of its twenty.
COLOURS = [
    *(f"C{index}" for index in range(10)),
    *(to_hex(matplotlib.colormaps["tab20"](2 * index + 1)) for index in range(10)),
]
REST_COLOUR = "#3a3a3a"  # of classes without a colour of their own
LONGEST_NAME = 24  # letters of a class's name
MINUS = "\N{MINUS SIGN}"


def draw_samples(path: Path, samples: np.ndarray) -> None:
    """Some samples (N, C, H, W), unselected."""
    save(path, tiles(samples), columns=COLUMNS)


def draw_pairs(path: Path, above: np.ndarray, below: np.ndarray) -> None:
    """Images of `above` (N, C, H, W), each over its counterpart in `below`, 16 pairs per row."""
    above, below, columns = tiles(above), tiles(below), min(COLUMNS, len(above))
    white = np.ones((-len(above) % columns, *above.shape[1:]), np.float32)  # fills the last row
    above, below = np.concatenate([above, white]), np.concatenate([below, white])
    rows = [half[start : start + columns] for start in range(0, len(above), columns) for half in (above, below)]
    save(path, np.concatenate(rows), columns=columns)


def draw_closest(path: Path, samples: np.ndarray, nearest: Neighbours, train: np.ndarray) -> None:
    """The ten samples with the smallest relative distance, each over its nearest training image; all uint8."""
    closest = np.argsort(relative_distances(nearest), kind="stable")[:CLOSEST]
    draw_pairs(path, as_float(samples[closest]), as_float(nearest[closest].images(train)[:, 0]))


def draw_gallery(path: Path, samples: np.ndarray, nearest: Neighbours, train: np.ndarray) -> None:
    """A row for each sample, followed by its nearest training images, without gaps, for the report to cut into tiles.

    All images are uint8.
    """
    neighbours = (nearest[row : row + 1].images(train)[0] for row in range(len(samples)))  # each (K, C, H, W)
    rows = [tiles(np.concatenate([sample[None], some])) for sample, some in zip(samples, neighbours, strict=True)]
    cells = np.stack(rows).transpose(0, 3, 1, 4, 2)  # (N, H, K + 1, W, C)
    count, height, columns, width, channels = cells.shape
    sheet = np.ascontiguousarray(cells).reshape(count * height, columns * width, channels)
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(path)


def draw_interpolations(path: Path, images: np.ndarray) -> None:
    """A row for each line through the latent space: (N, steps, C, H, W)."""
    save(path, tiles(images.reshape(-1, *images.shape[2:])), columns=images.shape[1])


def draw_distances(path: Path, samples: Neighbours, test: Neighbours) -> None:
    """Histograms of the distance to the nearest training image, of samples and of test images."""
    axes = _axes("distance to the nearest training image", "share of images")
    farthest = max(samples.distances[:, 0].max(), test.distances[:, 0].max())
    bins = np.linspace(0, farthest or 1.0, 60)  # all distances are 0 if all are copies
    for name, found, colour in (("test images", test, REFERENCE_COLOUR), ("samples", samples, SAMPLE_COLOUR)):
        weights = np.full(len(found.distances), 1 / len(found.distances))
        axes.hist(found.distances[:, 0], list(bins), weights=weights, color=colour, alpha=0.6, label=name)
    axes.legend(frameon=False, loc="upper right")  # "best" takes seconds on a busy machine, and warns
    finish(axes, path)


def draw_traversals(path: Path, images: np.ndarray) -> None:
    """A row for each latent dimension, from low to high: (R, steps, C, H, W)."""
    draw_interpolations(path, images)


def draw_codes(
    path: Path,
    points: np.ndarray,
    labels: np.ndarray | None,
    draws: np.ndarray | None = None,
    classes: list[str] | None = None,
) -> None:
    """A map of codes (N, 2), coloured by class if there are labels, over draws from the prior (M, 2) in grey.

    `labels` (N) are indices into `classes`. If there are more than 20 classes, the most frequent have their own colour.
    Grey without codes shows holes; codes without grey show what the prior misses.
    """
    axes = _axes("first principal component of the codes", "second")
    named: list[tuple[str, Artist]] = []
    if draws is not None:
        x, y = draws.T
        named.append(("the prior", axes.scatter(x, y, s=9, color=BACKGROUND_COLOUR, linewidths=0, zorder=0)))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=4, color=REFERENCE_COLOUR, linewidths=0)
    for chosen, name, colour in [] if labels is None else _coloured(labels, classes):
        x, y = points[chosen].T
        named.append((name, axes.scatter(x, y, s=5, linewidths=0, color=colour)))
    if named:
        _legend(axes, named)
    finish(axes, path)


def _coloured(labels: np.ndarray, classes: list[str] | None) -> Iterator[tuple[np.ndarray, str, str]]:
    """For each colour the codes that have it, booleans (N), and the name of their class."""
    found, counts = np.unique(labels, return_counts=True)
    few = len(found) <= len(COLOURS)
    named = found if few else np.sort(found[np.argsort(-counts, kind="stable")[: len(COLOURS) - 1]])
    rest = ~np.isin(labels, named)
    if rest.any():
        yield rest, f"{len(found) - len(named)} other classes", REST_COLOUR
    for label, colour in zip(named, COLOURS, strict=False):
        yield labels == label, str(label) if classes is None else short(classes[label]), colour


def short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _legend(axes: Axes, named: list[tuple[str, Artist]]) -> Legend:
    """With letters so small that it is no higher than the picture.

    Names are set afterwards, because matplotlib would parse formulas in them, and hide those that begin with "_".
    """
    size = 10 if len(named) <= 11 else 6.5
    legend = axes.legend(
        [handle for _, handle in named],
        [str(number) for number in range(len(named))],
        fontsize=size,
        labelspacing=0.5 if size == 10 else 0.3,
        frameon=False,
        markerscale=3,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        handletextpad=0.1,
    )
    for text, (name, _) in zip(legend.get_texts(), named, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend


def draw_likelihood(path: Path, curve: dict[str, float], elbo: float) -> None:
    """The bound on -log p(x), in nats, by the number of samples; the ELBO as the line from which it falls."""
    axes = _axes("samples of each image's code", f"bound on {MINUS}log p(x), nats")
    numbers, nats = [int(number) for number in curve], list(curve.values())
    axes.axhline(elbo, color=BACKGROUND_COLOUR, label=f"{MINUS}ELBO")
    axes.plot(numbers, nats, marker="o", color=SAMPLE_COLOUR, label="importance-weighted bound")
    axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:,}".replace(",", " ") for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, loc="lower left")  # the bound falls from left to right
    finish(axes, path)


def draw_kl(path: Path, kl: np.ndarray) -> None:
    """KL of each latent dimension, largest first."""
    axes = _axes("latent dimension, by rank", "KL to N(0, 1) in nats")
    axes.bar(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color=REFERENCE_COLOUR)
    finish(axes, path)


def _axes(x: str, y: str) -> Axes:
    axes = Figure(figsize=(6, 3.4), layout="constrained").add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def finish(axes: Axes, path: Path) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)  # it draws a box instead
        figure.savefig(path, dpi=110)
