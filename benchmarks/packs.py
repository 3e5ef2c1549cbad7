"""What packing trials brings, by how many there are, and how the cost of training grows.

Runs on a GPU where there is one, and says which device it saw. On a CPU it has one thread, as a worker has.
"""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.loops import BATCH, our_epoch
from benchmarks.peers import apart
from benchmarks.sweep import swept
from benchmarks.target import Result, Target
from benchmarks.training import seconds
from latentmill import registry
from latentmill.cluster.process import use_one_core
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.training.loop import Setup
from latentmill.trials.pack_size import copies, step_seconds
from latentmill.trials.trial import Trial

FEW = Target("pack of 64 mlp on a GPU: trials an hour over one at a time", "x", at_least=50)
MANY = Target("pack of 256 mlp on a GPU: trials an hour over one at a time", "x", at_least=100)
USUAL = (28, "mlp", 400)  # side of the images, network, hidden units
CURVES = ((8, "mlp", 16), (8, "mlp", 64), (8, "mlp", 400), USUAL, (28, "conv", 400))
SIZES = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), "cpu": (1, 4, 16, 64)}
LONGEST = 1.0  # seconds of a step: larger packs are left out
IMAGES, TRIALS, SIDES = (600, 6_000, 60_000), (1, 10, 100, 1000), (28, 64, 128)


def measure() -> Iterator[Result]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    use_one_core()
    print(f"  device: {torch.cuda.get_device_name() if device == 'cuda' else 'CPU, one thread'}")
    curves = {model: curve(*model, device) for model in CURVES}
    for target, size in ((FEW, 64), (MANY, 256)):
        if device == "cpu":
            yield target.not_measured("a GPU")
        else:
            yield target.result(curves[USUAL][1] / curves[USUAL].get(size, math.inf))
    growth()


def curve(side: int, network: str, hidden: int, device: str) -> dict[int, float]:
    """Seconds of a step for each member of a pack, by its size; printed with the memory of a member."""
    images = Batches(noise(10 * BATCH, side), device)
    found: dict[int, float] = {}
    for size in SIZES[device]:
        if found and size * min(found.values()) > LONGEST:
            break
        trained = copies(trial(network, hidden), size, Setup(images, images), 0)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        found[size] = step_seconds(trained, images) / size
        memory = f", {torch.cuda.max_memory_allocated() / size / 2**20:.1f} MiB" if device == "cuda" else ""
        told = f"{side}x{side} {network} {hidden}, {size:>3} together"
        print(f"  {told}: {1e3 * found[size]:.3f} ms a step and member{memory}", flush=True)
    return found


def growth() -> None:
    """Print how seconds grow with images, trials and the images' sides, each with its exponent."""
    epochs = {count: seconds(our_epoch(noise(count, 28))) for count in IMAGES}
    tell("seconds of an epoch, by images", epochs)
    tell("seconds of a sweep of tiny models, by trials", {count: sweep(count) for count in TRIALS})
    for network in ("mlp", "conv"):
        steps = {side: step(network, side) for side in SIDES}
        tell(f"milliseconds of a step of {network}, by the side of an image", steps)


def sweep(count: int) -> float:
    rates = [1e-3 * 1.001**row for row in range(count)]
    ladder = {"vae": {"hidden": 16, "latent": 4, "learning_rate": rates}}
    return apart(swept, ladder, {"epochs": 5, "patience": 5}, noise(1000, 8), 2).whole  # each with a Ray of its own


def step(network: str, side: int) -> float:
    images = Batches(noise(2 * BATCH, side))
    trained = copies(trial(network, 400), 1, Setup(images, images), 0)
    return 1e3 * statistics.median(step_seconds(trained, images) for _ in range(3))


def tell(what: str, found: dict[int, float]) -> None:
    """With the exponent of the last two: 1 is in proportion."""
    points = list(found.items())
    exponents = [exponent(*pair) for pair in itertools.pairwise(points)]
    told = ", ".join(f"{key}: {value:.3g}" for key, value in points)
    print(f"  {what}: {told}; exponents {', '.join(f'{each:.2f}' for each in exponents)}", flush=True)


def exponent(one: Sequence[float], other: Sequence[float]) -> float:
    return math.log(other[1] / one[1]) / math.log(other[0] / one[0])


def trial(network: str, hidden: int) -> Trial:
    config = registry.find("models", "vae").Config.model_validate({"network": network, "hidden": hidden})
    return Trial("vae", config.model_dump(), TrainingConfig(batch_size=BATCH).model_dump(), seed=0)


def noise(count: int, side: int) -> np.ndarray:
    """Half of it black, as digits are: uint8 (count, 1, side, side)."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, side, side), np.uint8)
    return np.where(images < 128, 0, images).astype(np.uint8)
