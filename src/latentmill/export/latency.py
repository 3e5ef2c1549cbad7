"""How long a call takes, here and now: an order of magnitude for who chooses a model."""

import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from latentmill.export.graphs import Graph
from latentmill.runtime import graph as runtime

BATCHES = (1, 64, 1024)
SECONDS, LEAST = 0.03, 5  # to repeat a call for, and how often at least …
MOST = 3.0  # … unless so many seconds are over


def latency(graph: Graph, path: Path) -> dict[str, float]:
    """Milliseconds of a call of the file that `graph` was exported as."""
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in graph.outputs(batch=2).items()}
    opened = runtime.Graph(path.read_bytes(), str(path), (graph.input_name, graph.input_shape), shapes)
    return milliseconds(opened, graph)


def milliseconds(opened: runtime.Graph, graph: Graph) -> dict[str, float]:
    """Of a call, the median, by the rows in it; `graph` gives examples."""
    return {str(batch): _milliseconds(opened, graph.example(batch, seed=0).numpy()) for batch in BATCHES}


def measured_on() -> dict[str, Any]:
    """What the times depend on."""
    return {"processor": _processor(), "threads": runtime.cores()}


def _milliseconds(graph: runtime.Graph, rows: np.ndarray) -> float:
    graph.run(rows, *graph.given)  # the first call prepares
    times: list[float] = []
    while sum(times) < SECONDS or (len(times) < LEAST and sum(times) < MOST):
        started = time.perf_counter()
        graph.run(rows, *graph.given)
        times.append(time.perf_counter() - started)
    return float(f"{1000 * median(times):.3g}")


def _processor() -> str:
    """Its model, where Linux says it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
