"""Learning curves: one small chart per entry, because objectives of different entries do not compare."""

from dataclasses import dataclass

from latentmill.report.inputs import Curve
from latentmill.report.numbers import plain

WIDTH, HEIGHT = 320, 150  # of the drawing area, in the units of the SVG
SKIPPED = 0.05  # share of the epochs, the first, that may run off the top


@dataclass(frozen=True)
class Chart:
    """The winner's validation loss over epochs, with a line for each seed."""

    entry: str
    lines: list[str]  # the points of each, in SVG
    best_x: float  # where the first line is lowest
    best_y: float
    best: str
    best_epoch: int
    highest: str
    lowest: str
    first: int
    last: int


def charts(curves: list[Curve]) -> dict[str, Chart]:
    """The chart of each entry; entries that learn in closed form have none."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.epochs:
            found.setdefault(curve.entry, []).append(curve)
    return {entry: _chart(entry, each) for entry, each in found.items()}


def _chart(entry: str, curves: list[Curve]) -> Chart:
    settled = [loss for curve in curves for loss in curve.losses[int(SKIPPED * len(curve.losses)) :]]
    low, high = min(settled), max(settled)
    first, last = min(curve.epochs[0] for curve in curves), max(curve.epochs[-1] for curve in curves)

    def x(epoch: int) -> float:
        return WIDTH * (epoch - first) / max(1, last - first)

    def y(loss: float) -> float:
        return HEIGHT * (high - loss) / ((high - low) or 1)

    lines = [
        " ".join(f"{x(epoch):.1f},{y(loss):.1f}" for epoch, loss in zip(curve.epochs, curve.losses, strict=True))
        for curve in curves
    ]
    best, epoch = min(zip(curves[0].losses, curves[0].epochs, strict=True))
    return Chart(entry, lines, x(epoch), y(best), plain(best), epoch, plain(high), plain(low), first, last)
