"""Convolutions against residual networks: the error of reconstructions after the same time of one core.

`python -m benchmarks.networks digits=FOLDER/data/prepared emoji=…` trains a VAE with either network on each prepared
data set, once for each of `BUDGETS`, each time with a whole one-cycle schedule, and measures the mean squared error on
validation images. It writes networks.json and networks.png beside this file, and exits with 1 where a residual network
is worse than convolutions on some data after the longest time.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.target import Result, Target
from latentmill import registry
from latentmill.cluster.process import use_one_core
from latentmill.config import TrainingConfig
from latentmill.contract import Decodes, Encodes, Model
from latentmill.data.batches import Batches
from latentmill.data.dataset import read_split
from latentmill.files import write_json
from latentmill.training.loop import Setup, train

NETWORKS = ("conv", "residual")
BUDGETS = (30, 60, 120)  # seconds of one core
CONFIG = {"observation": "gaussian", "latent": 64, "beta": 0.1}
TRAINING: dict[str, Any] = {"learning_rate": 2e-3, "schedule": "one-cycle", "weight_decay": 1e-4}
BATCH = 128
TIMED = 10  # steps
BETTER = Target("networks: error of a residual network against convolutions", "x", at_most=1.0)
RESULTS = Path(__file__).with_name("networks.json")


def main() -> int:
    folders = dict(item.split("=", 1) for item in chosen())
    use_one_core()
    curves = {name: {network: curve(network, Path(folder)) for network in NETWORKS} for name, folder in folders.items()}
    write_json(RESULTS, curves)
    draw(curves).savefig(RESULTS.with_suffix(".png"), dpi=100)
    results = [compared(name, found) for name, found in curves.items()]
    return 0 if all(result.holds for result in results) else 1


def chosen() -> list[str]:
    parser = argparse.ArgumentParser("python -m benchmarks.networks", description=__doc__)
    parser.add_argument("data", nargs="+", help="a name and a folder of prepared data: digits=data/prepared")
    data: list[str] = parser.parse_args().data
    return data


def curve(network: str, folder: Path) -> list[dict[str, float]]:
    """For each budget the seconds of a core that were used, and the error on validation images."""
    images, val = read_split(folder, "train"), read_split(folder, "val")
    config = CONFIG | {"network": network}
    few, rows = images[: TIMED * BATCH], []
    trained(config, few, few[:BATCH], TIMED)  # to warm up
    a_step = trained(config, few, few[:BATCH], TIMED)[1] / TIMED
    for budget in BUDGETS:
        steps = round(budget / a_step)
        model, seconds = trained(config, images, val, steps)
        rows.append({"seconds": round(seconds, 1), "steps": steps, "error": error(model, Batches(val))})
        print(f"{folder} {network} {rows[-1]}", flush=True)
    return rows


def trained(config: dict[str, Any], images: np.ndarray, val: np.ndarray, steps: int) -> tuple[Model, float]:
    """A model after so many steps, or the whole epoch that reaches them; and seconds of CPU time."""
    torch.manual_seed(0)
    model = registry.build("models", "vae", config, images.shape[1:])
    epochs = -(-steps // -(-len(images) // BATCH))
    training = TrainingConfig(**TRAINING, batch_size=BATCH, epochs=epochs, patience=epochs, max_steps=steps)
    started = time.process_time()
    train(model, Setup(Batches(images), Batches(val)), training, seed=0)
    return model, time.process_time() - started


@torch.no_grad()
def error(model: Model, val: Batches) -> float:
    """The mean squared error of reconstructed pixels in [0, 1]."""
    assert isinstance(model, Encodes)
    assert isinstance(model, Decodes)
    sums = [(model.decode(model.encode(images)) - images).square().sum() for images in val.chunks()]
    return float(sum(sums)) / len(val) / math.prod(val.shape)


def draw(curves: dict[str, dict[str, list[dict[str, float]]]]) -> Figure:
    figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.2), layout="constrained", squeeze=False)
    for axis, (name, found) in zip(axes[0], curves.items(), strict=True):
        for network, rows in found.items():
            axis.loglog([row["seconds"] for row in rows], [row["error"] for row in rows], marker="o", label=network)
        axis.set(title=name, xlabel="seconds of one core", ylabel="mean squared error, validation")
        axis.legend()
    return figure


def compared(name: str, found: dict[str, list[dict[str, float]]]) -> Result:
    plain, residual = (found[network][-1]["error"] for network in NETWORKS)
    result = BETTER.result(residual / plain, note=f"{name}: {residual:.5f} and {plain:.5f}")
    print(result, result.note, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
