"""The time of a call on this machine: an order of magnitude for the choice of a model."""

import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

from latentmill.export.graphs import Graph
from latentmill.runtime import graph as runtime
from latentmill.runtime.cores import cores

BATCHES = (1, 64, 1024)
SECONDS, LEAST = 0.03, 5  # a call is repeated for so many seconds and at least so often …
MOST = 3.0  # … but not after so many seconds


def latency(graph: Graph, path: Path) -> dict[str, float]:
    """Milliseconds per call of the exported file of `graph`, by the number of rows."""
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in graph.outputs(batch=2).items()}
    opened = runtime.OnnxGraph(path.read_bytes(), str(path), graph.inputs, shapes)
    return milliseconds(opened, graph)


def milliseconds(opened: runtime.OnnxGraph, graph: Graph) -> dict[str, float]:
    """The median per call, by the number of rows; `graph` provides example inputs."""
    return {str(batch): _milliseconds(opened, graph, batch) for batch in BATCHES}


def measured_on() -> dict[str, Any]:
    """The processor and the number of threads."""
    return {"processor": _processor(), "threads": cores()}


def _milliseconds(opened: runtime.OnnxGraph, graph: Graph, batch: int) -> float:
    given = graph.feeds(batch, seed=0)
    opened.run(given, *opened.outputs)  # the first call allocates memory
    times: list[float] = []
    while sum(times) < SECONDS or (len(times) < LEAST and sum(times) < MOST):
        started = time.perf_counter()
        opened.run(given, *opened.outputs)
        times.append(time.perf_counter() - started)
    return float(f"{1000 * median(times):.3g}")


def _processor() -> str:
    """Its model name on Linux, else what Python knows of it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
