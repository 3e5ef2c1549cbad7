"""The picture of how codes and known factors go together."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from latentmill.evaluation.pictures import finish, short

ROWS = 20  # dimensions shown


def draw_importance(path: Path, importance: np.ndarray, names: list[str]) -> None:
    """The importance (d, F) of dimensions of a code, those of most importance first, for factors, 0 to 1 in greys."""
    order = np.argsort(-importance.sum(1), kind="stable")[:ROWS]
    figure = Figure(figsize=(2.8 + 0.7 * len(names), 2.4 + 0.25 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(importance[order], cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_ylabel("dimension of the code")
    axes.set_yticks(np.arange(len(order)), [str(dimension) for dimension in order])
    axes.set_xticks(np.arange(len(names)), list(map(short, names)), rotation=30, ha="right", parse_math=False)
    finish(axes, path)
