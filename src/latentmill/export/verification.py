"""Compares the outputs of onnxruntime with those of torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from latentmill.export.graphs import Graph
from latentmill.export.refusal import Refused

BATCHES = (1, 2, 65)
# Images are in [0, 1]. Codes have no fixed range, so a difference counts relative to the largest, if that is above 1.
# They are what many layers made of an image, and their posterior is wider by far, so they may differ by more.
TOLERANCE, TOLERANCE_OF_CODES = 1e-5, 1e-4
# Where a model chooses, an index or 0 or 1, rounding decides between two that are equally near or likely, in about one
# of 1,000 rows.
MOST_OTHERS = 0.05  # share of rows with other choices than torch's, which are not compared
CODES = ("z", "mean")  # outputs that are codes


@torch.no_grad()
def largest_difference(graph: Graph, path: Path) -> float:
    """Between torch and onnxruntime at batches 1, 2 and 65, as a share of the largest output if that is above 1.

    Raises:
        Refused: it is above the tolerance, or too many rows have other choices.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tolerances = {name: TOLERANCE_OF_CODES if name in CODES else TOLERANCE for name in graph.output_names}
    differences, others = {name: [0.0] for name in tolerances}, 0
    for batch in BATCHES:
        found = session.run(list(graph.output_names), graph.feeds(batch, seed=batch))
        expected = [each.numpy() for each in graph.function(*graph.example(batch, seed=batch))]
        same = _has_same_choices(graph, found, expected)
        others += int((~same).sum())
        for name, ours, theirs in zip(tolerances, found, expected, strict=True):
            differences[name].append(_difference(ours[same], theirs[same]))
    if others > MOST_OTHERS * sum(BATCHES):
        rule = f"{path.name} must make the same choices as torch for all but {MOST_OTHERS:.0%} of rows"
        raise Refused(f"{rule}, but makes others for {others} of {sum(BATCHES)}")
    largest = {name: float(np.max(each)) for name, each in differences.items()}  # NaN where one is
    for name, tolerance in tolerances.items():
        if not largest[name] <= tolerance:
            rule = f"{name} of {path.name} must differ from torch by at most {tolerance}"
            raise Refused(f"{rule}, but differs by {largest[name]:.3g}")
    return float(np.max([*largest.values()]))


def _has_same_choices(graph: Graph, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> np.ndarray:
    """(B), for each row whether both have the same indices, or made the same choices; all, where there are none."""
    same = np.ones(len(found[0]), bool)
    for name, ours, theirs in zip(graph.output_names, found, expected, strict=True):
        if graph.entries and name in CODES:
            same &= (ours == theirs).reshape(len(ours), -1).all(1)
        elif graph.chooses:
            same &= (np.abs(ours - theirs) <= TOLERANCE).reshape(len(ours), -1).all(1)
    return same


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if not len(found):
        return 0.0
    return float(np.abs(found - expected).max() / np.maximum(1.0, np.abs(expected).max()))
