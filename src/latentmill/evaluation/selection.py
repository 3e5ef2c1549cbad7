"""The distance of samples to the validation images, by which a champion is chosen: test images are only reported."""

from dataclasses import asdict
from typing import Any

import numpy as np

from latentmill.evaluation.fidelity import TooFew, frechet_distance, kernel_distance, prdc
from latentmill.evaluation.spaces import FidelitySpace, random_subset

COMPARED = 2_000  # images of each set: the time of most metrics grows with their square


def selection_metrics(samples: np.ndarray, val: np.ndarray, spaces: list[FidelitySpace], seed: int) -> dict[str, Any]:
    """The metrics of `config.ChampionMetric`, of as many samples as there are validation images, in the last space.

    Both are uint8 (N, C, H, W), the samples in a random order; as many of `val` are drawn by `seed`. Empty if there are
    too few images.
    """
    if not spaces:
        return {}
    count = min(len(samples), len(val), COMPARED)
    ours, theirs = (spaces[-1].features(images[:count]) for images in (samples, random_subset(val, count, seed)))
    try:
        balls = prdc(ours, theirs)
        distances = {
            "frechet_distance": frechet_distance(ours, theirs),
            "kernel_distance": kernel_distance(ours, theirs),
        }
    except TooFew:
        return {}
    return {"space": spaces[-1].name} | distances | asdict(balls)
