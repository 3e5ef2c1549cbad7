"""Exact neighbours: ours against faiss alone, and against the one matrix product that any exact search takes."""

import statistics
import time
from collections.abc import Callable, Iterator

import faiss
import numpy as np
import torch

from benchmarks.target import Result, Target
from latentmill.data.batches import as_float
from latentmill.data.sources.fashion_mnist import FOLDER, read_pair
from latentmill.evaluation.neighbours import K, TrainingSet

AGAINST_PRODUCT = Target("5 nearest of 10 000 among 60 000: time over the product's", "x", at_most=1.3)
AGAINST_FAISS = Target("5 nearest of 10 000 among 60 000: time over faiss's", "x", at_most=1.0)
ROUNDS = 3


def measure() -> Iterator[Result]:
    """All test images of Fashion-MNIST among its training images, on all cores."""
    if not FOLDER.exists():
        yield AGAINST_PRODUCT.not_measured("dataset-fashion-mnist")
        yield AGAINST_FAISS.not_measured("dataset-fashion-mnist")
        return
    train, test = (read_pair(FOLDER, part)[0] for part in ("train", "t10k"))
    rows, queries = (np.ascontiguousarray(as_float(images).reshape(len(images), -1)) for images in (train, test))
    rounds = timed_rounds(rows, queries)
    yield AGAINST_PRODUCT.result(statistics.median(ours / product for ours, product, _ in rounds))
    yield AGAINST_FAISS.result(statistics.median(ours / theirs for ours, _, theirs in rounds))


def timed_rounds(rows: np.ndarray, queries: np.ndarray) -> list[tuple[float, float, float]]:
    """Seconds of our search, of the product and of faiss, a tuple a round after one to warm up."""
    ours, theirs = TrainingSet(rows), faiss.IndexFlatL2(rows.shape[1])
    theirs.add(rows)
    a, b = torch.from_numpy(queries), torch.from_numpy(rows).T
    return [
        (seconds(lambda: ours.nearest(queries)), seconds(lambda: a @ b), seconds(lambda: theirs.search(queries, K)))
        for _ in range(ROUNDS + 1)
    ][1:]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
