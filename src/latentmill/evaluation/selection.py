"""The distance of samples to the validation images, by which priors and a champion are chosen.

Test images are only reported.
"""

from dataclasses import asdict
from math import inf
from typing import Any

import numpy as np

from latentmill.evaluation.fidelity import prdc
from latentmill.evaluation.spaces import FidelitySpace, random_subset
from latentmill.features.distances import TooFew, frechet_distance, kernel_distance

COMPARED = 2_000  # images of each set: the time of most metrics grows with their square


def selection_metrics(
    samples: np.ndarray, val: np.ndarray, spaces: list[FidelitySpace], seed: int, most: int = COMPARED
) -> dict[str, Any]:
    """The metrics of `config.ChampionMetric`, of as many samples as there are validation images, in the last space.

    Both are uint8 (N, C, H, W), the samples in a random order; as many of `val` are drawn by `seed`. Entries compare
    only by equal numbers of samples, so `most` are the samples of the entry that has fewest. Empty if there are too few
    images.
    """
    if not spaces:
        return {}
    count = min(len(samples), len(val), COMPARED, most)
    ours, theirs = (spaces[-1].features(images[:count]) for images in (samples, random_subset(val, count, seed)))
    try:
        balls = prdc(ours, theirs)
        distances = {
            "frechet_distance": frechet_distance(ours, theirs),
            "kernel_distance": kernel_distance(ours, theirs),
        }
    except TooFew:
        return {}
    return {"space": spaces[-1].name, "images": count} | distances | asdict(balls)


def exported_prior(wanted: str, samples: dict[str, dict[str, Any]]) -> str:
    """The prior that an entry is exported with: the one that is wanted, unless that is auto or could not be trained.

    Then it is the nearest to the validation images of those that don't fail Rule 2, or of all if all fail; without
    distances, because there are too few images, it is the last.
    """
    if wanted in samples:
        return wanted
    if len(samples) == 1:
        return next(iter(samples))
    allowed = [name for name, found in samples.items() if found["rule_2"]["status"] != "fail"] or list(samples)

    def distance(name: str) -> float:
        return float(samples[name]["validation"].get("frechet_distance", inf))

    return min(reversed(allowed), key=distance)
