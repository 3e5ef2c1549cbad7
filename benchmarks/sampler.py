"""The sampler from a cold start: a fresh process for each run."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.target import Result, Target

COLD = Target("sampler: 64 images, cold", "s", at_most=0.6)
MODEL = Path("exports/vae")
RUNS = 10


def measure() -> Iterator[Result]:
    """`latentmill sample`, the median of ten."""
    if not (MODEL / "generator.onnx").exists():
        yield COLD.not_measured(f"{MODEL}/generator.onnx: run `dvc repro`")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield COLD.result(statistics.median(seconds_cold(Path(folder)) for _ in range(RUNS)))


def seconds_cold(folder: Path) -> float:
    program = Path(sys.executable).with_name("latentmill")
    started = time.perf_counter()
    subprocess.run([program, "sample", MODEL, "--n=64", f"--out={folder}/64.png"], check=True, capture_output=True)
    return time.perf_counter() - started
