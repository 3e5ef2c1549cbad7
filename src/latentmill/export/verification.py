"""Compares the outputs of onnxruntime with those of torch."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from latentmill.export.graphs import Graph
from latentmill.export.refusal import Refused

BATCHES = (1, 2, 65)
# Images are in [0, 1]. Codes have no fixed range, so a difference counts relative to the largest, if that is above 1.
TOLERANCE = 1e-5


@torch.no_grad()
def largest_difference(graph: Graph, path: Path) -> float:
    """Between torch and onnxruntime at batches 1, 2 and 65, as a share of the largest output if that is above 1.

    Raises:
        Refused: it is above the tolerance.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = []
    for batch in BATCHES:
        outputs = session.run(list(graph.output_names), graph.feeds(batch, seed=batch))
        for found, tensor in zip(outputs, graph.function(*graph.example(batch, seed=batch)), strict=True):
            expected = tensor.numpy()
            differences.append(np.abs(found - expected).max() / np.maximum(1.0, np.abs(expected).max()))
    largest = float(np.max(differences))  # NaN where one is
    if not largest <= TOLERANCE:
        raise Refused(f"{path.name} must differ from torch by at most {TOLERANCE}, but differs by {largest:.3g}")
    return largest
