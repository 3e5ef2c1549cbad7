"""Memory: 100 000 images of 64x64x3, trained on for an epoch and evaluated, beside no more than their map."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks import processes
from benchmarks.processes import Run
from benchmarks.target import Result, Target
from latentmill.files import write_json

COUNTS = {"train": 70_000, "val": 15_000, "test": 15_000}
SHAPE, CLASSES, BLOCK = (3, 64, 64), 10, 1_000
LADDER: dict[str, Any] = {
    "naive_bayes": {},
    "ppca": {"latent": 20},
    "vae_mlp": {"model": "vae", "latent": 20},
    "vae_conv": {"model": "vae", "latent": 20, "network": "conv"},
}
STAGES = ("train", "evaluate")
MEMORY = {name: Target(f"memory: {name}, 100 000 images of 64x64x3", "GiB", at_most=4) for name in STAGES}
SILENCE = {name: Target(f"longest silence: {name}, the same images", "s", at_most=10) for name in STAGES}
ROOT = Path(__file__).parents[1]


def measure() -> Iterator[Result]:
    """Proportional set sizes of all processes, the mapped images among them, at their largest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data/prepared")
        write_params(folder / "params.yaml")
        for stage in STAGES:
            run = run_stage(folder, stage)
            print(f"  {stage}: {run.seconds:.0f} s", flush=True)
            yield MEMORY[stage].result(run.peak_bytes / 2**30)
            yield SILENCE[stage].result(run.silence)


def run_stage(folder: Path, stage: str) -> Run:
    command = [sys.executable, str(ROOT / "pipeline" / f"{stage}.py")]
    return processes.run(command, folder, processes.environment_of(ROOT / "src"))


def write_params(path: Path) -> None:
    sections: dict[str, Any] = {"data": {"source": "digits"}, "trial": {"epochs": 1}, "priors": {}, "ladder": LADDER}
    cores = len(os.sched_getaffinity(0))
    YAML().dump(sections | {"train": {"workers": min(2, cores)}, "evaluation": {}, "export": {}}, path)


def write_data(folder: Path) -> None:
    """The prepared format, a block at a time."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        labels = rng.integers(CLASSES, size=count)
        np.save(folder / f"{split}_labels.npy", labels)
        images = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, (count, *SHAPE))
        for start in range(0, count, BLOCK):
            images[start : start + BLOCK] = drawn(labels[start : start + BLOCK], rng)
    facts = {"shape": list(SHAPE), "counts": COUNTS, "classes": [f"kind {number}" for number in range(CLASSES)]}
    no_more = {"duplicates_dropped": dict.fromkeys(COUNTS, 0), "digests": {}}
    write_json(
        folder / "manifest.json", {"source": "drawn", "description": "ellipses", "digest": "0" * 64} | facts | no_more
    )


def drawn(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An ellipse on a gradient, with a little noise; its form is of the label: uint8 (N, C, H, W)."""
    count, (channels, height, width) = len(labels), SHAPE

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *shape, 1, 1)).astype(np.float32)

    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    background = uniform(90, 220, channels) + uniform(-30, 30, channels) * x + uniform(-30, 30, channels) * y
    stretch = (0.4 + 0.12 * labels)[:, None, None].astype(np.float32)  # of the height over the width
    radii = ((x - uniform(-0.4, 0.4)) ** 2 + ((y - uniform(-0.4, 0.4)) / stretch) ** 2) / uniform(0.2, 0.5) ** 2
    inside = (radii < 1)[:, None]  # (N, 1, H, W)
    images = np.where(inside, uniform(0, 255, channels), background)
    images += rng.integers(-6, 7, images.shape, dtype=np.int8)
    return images.clip(0, 255).astype(np.uint8)
