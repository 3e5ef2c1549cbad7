"""Training: our loop against a DataLoader loop, and against the time of its matrix products alone.

All three run on one thread, in turn, round after round; a figure is the median of the rounds' ratios, because a
machine's speed drifts more between minutes than within a round.
"""

import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.loops import Epoch, loader_epoch, our_epoch, products_epoch
from benchmarks.target import Result, Target
from latentmill.cluster.process import use_one_core
from latentmill.data.sources.fashion_mnist import FOLDER, read_pair

AGAINST_LOADER = Target("training: speed against a DataLoader loop", "x", at_least=1.25)
AGAINST_PRODUCTS = Target("training: speed against its matrix products alone", "x", at_least=0.6)
ROUNDS = 5


def measure() -> Iterator[Result]:
    """Epochs on the 60 000 training images of Fashion-MNIST: a VAE 784-400-20, batch 128, Adam."""
    if not FOLDER.exists():
        yield AGAINST_LOADER.not_measured("dataset-fashion-mnist")
        yield AGAINST_PRODUCTS.not_measured("dataset-fashion-mnist")
        return
    use_one_core()  # as the sweep's workers do; here for all three alike
    rounds = timed_rounds(read_pair(FOLDER, "train")[0])
    yield AGAINST_LOADER.result(statistics.median(loader / ours for ours, loader, _ in rounds))
    yield AGAINST_PRODUCTS.result(statistics.median(products / ours for ours, _, products in rounds))


def timed_rounds(images: np.ndarray) -> list[tuple[float, float, float]]:
    """Seconds of one epoch of ours, of the DataLoader's and of the products, a tuple a round after one to warm up."""
    ours, loader, products = our_epoch(images), loader_epoch(images), products_epoch(len(images))
    return [(seconds(ours), seconds(loader), seconds(products)) for _ in range(ROUNDS + 1)][1:]


def seconds(epoch: Epoch) -> float:
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started
