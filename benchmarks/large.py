"""A million images of 64x64x3, prepared, trained on for an epoch and evaluated: the memory of each process.

    python -m benchmarks.large [--images 1000000] [--folder DIR]

DIR must have room for the images twice: the source is deleted once they are prepared. Pages of a mapped file count as
resident, but are no process's own: the kernel takes them back whenever another needs them. So both are shown, and the
own are bounded.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.memory import BLOCK, CLASSES, SHAPE, drawn, run_stage
from benchmarks.target import Result, Target

STAGES = ("scan", "prepare", "train", "evaluate")
MOST = 4.0  # GiB
PARAMS: dict[str, Any] = {
    # The search for near-duplicates takes more of a core's time than all else together.
    "data": {"source": "arrays", "path": "images.npy", "drop_near_duplicates": False},
    "trial": {"epochs": 1, "batch_size": 500},
    "priors": {},
    "train": {"workers": 2},
    "ladder": {"vae": {"latent": 16, "hidden": 64}},
    "evaluation": {"samples": 500, "likelihood_images": 50, "features": ["pixels"]},
    "export": {},
}


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.large", description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", help="on a disk with room (TMPDIR)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        results = [result for stage in STAGES for result in measured(Path(name), stage, chosen.images)]
    return 0 if all(result.holds for result in results) else 1


def measured(folder: Path, stage: str, count: int) -> list[Result]:
    """Run a stage, after what it needs is there."""
    if stage == "scan":
        write_images(folder / "images.npy", count)
        YAML().dump(PARAMS, folder / "params.yaml")
    run = run_stage(folder, stage)
    name = f"{stage}, {count:,} images: largest process"
    if stage == "prepare":
        (folder / "images.npy").unlink()
    own = Target(f"{name}, its own memory", "GiB", at_most=MOST).result(run.largest_own / 2**30)
    print(own, f"  {run.largest_resident / 2**30:.2f} GiB resident with mapped pages, {run.seconds:.0f} s", flush=True)
    return [own]


def write_images(path: Path, count: int) -> None:
    """A block at a time."""
    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, BLOCK):
        labels = rng.integers(CLASSES, size=min(BLOCK, count - start))
        images[start : start + BLOCK] = drawn(labels, rng)


if __name__ == "__main__":
    sys.exit(main())
