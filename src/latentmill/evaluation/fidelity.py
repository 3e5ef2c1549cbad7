"""Rule 1: do samples look drawn from the data?

A test image's ball reaches to its k-th nearest test image. Precision is the share of samples that fall into some
ball (Kynkäänniemi et al. 2019), coverage the share of balls that hold a sample (Naeem et al. 2020). Both are 0 for
noise; precision stays high for samples that are all alike, coverage does not. Distances are of pixels, so a blurred
sample counts as near: a floor to clear, not a proof of quality.
"""

import torch
from torch import Tensor

K = 5  # as in Naeem et al. 2020
CHUNK = 1_000  # rows of the distance matrix held at a time


def fidelity(samples: Tensor, test: Tensor) -> dict[str, float]:
    """Precision and coverage of samples (N, ...) against as many test images, or all there are."""
    count = min(len(samples), len(test))
    samples, test = samples[:count].flatten(1), test[:count].flatten(1)
    radii = torch.cat([_kth_distance(rows, test) for rows in test.split(CHUNK)])  # (count)
    precise, covered = [], torch.zeros(count, dtype=torch.bool)
    for rows in samples.split(CHUNK):
        inside = torch.cdist(rows, test) < radii  # (CHUNK, count)
        precise.append(inside.any(1))
        covered |= inside.any(0)
    return {"precision": float(torch.cat(precise).float().mean()), "coverage": float(covered.float().mean())}


def _kth_distance(rows: Tensor, test: Tensor) -> Tensor:
    """From each of `rows`, which are among `test`, to its k-th nearest other test image."""
    return torch.cdist(rows, test).kthvalue(min(K + 1, len(test)), dim=1).values
