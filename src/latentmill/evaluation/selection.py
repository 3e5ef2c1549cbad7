"""How near samples come to the validation images: what a champion may be chosen by, for test images only report."""

from dataclasses import asdict
from typing import Any

import numpy as np

from latentmill.evaluation.fidelity import TooFew, frechet_distance, kernel_distance, prdc
from latentmill.evaluation.spaces import Space, some_of

COMPARED = 2_000  # images of each set: the time of most measures grows with their square


def selection_metrics(samples: np.ndarray, val: np.ndarray, spaces: list[Space], seed: int) -> dict[str, Any]:
    """The measures of `config.ChampionMetric`, of as many samples as there are validation images, in the last space.

    Both are uint8 (N, C, H, W), the samples in a random order; of `val` as many are drawn by `seed`. Where there are
    too few images, there are none.
    """
    if not spaces:
        return {}
    count = min(len(samples), len(val), COMPARED)
    ours, theirs = (spaces[-1].features(images[:count]) for images in (samples, some_of(val, count, seed)))
    try:
        balls = prdc(ours, theirs)
        distances = {
            "frechet_distance": frechet_distance(ours, theirs),
            "kernel_distance": kernel_distance(ours, theirs),
        }
    except TooFew:
        return {}
    return {"space": spaces[-1].name} | distances | asdict(balls)
