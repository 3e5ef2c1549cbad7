"""Distances between two sets of images, as pure functions of features float32 (N, D) and (M, D) from one space."""

from math import sqrt

import numpy as np

CHUNK = 1_000  # rows of an N×M matrix held at a time


class TooFew(ValueError):
    """There are fewer images than a metric is defined for. The message states the rule, then the numbers."""


def frechet_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians with the means and covariances of both sets (Heusel et al. 2017).

    |m1 - m2|² + tr(S1) + tr(S2) - 2 tr((S1^½ S2 S1^½)^½), at least 0. It is defined for any finite features, also for
    constant ones and for more features than images. It is called FID for the features of one Inception network only.

    Raises:
        TooFew: a set has fewer than the 2 images that a covariance needs.
    """
    require(2, samples, real)
    (mean, root), (other_mean, other_root) = _moments(samples), _moments(real)
    # With S = R'R, the last trace is the sum of the singular values of R1 R2'. This avoids the square root of a matrix
    # that is singular or, after rounding, no longer positive.
    overlap = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    spread = np.square(root).sum() + np.square(other_root).sum() - 2 * overlap
    return max(0.0, float(np.square(mean - other_mean).sum() + spread))


def kernel_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018).

    0 on average for samples of the data, so it may be slightly negative.

    Raises:
        TooFew: a set has fewer than the 2 images that a pair needs.
    """
    require(2, samples, real)
    x, y = samples.astype(np.float64), real.astype(np.float64)
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def require(fewest: int, *sets: np.ndarray) -> None:
    if min(len(points) for points in sets) < fewest:
        sizes = " and ".join(str(len(points)) for points in sets)
        raise TooFew(f"the metric needs at least {fewest} images of each set, but got {sizes}")


def _moments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D) of points (N, D), and an R (min(N, D), D) with R'R their covariance."""
    mean = points.mean(0, dtype=np.float64)
    return mean, np.asarray(np.linalg.qr(points - mean, mode="r")) / sqrt(len(points) - 1)


def _mean_of_pairs(x: np.ndarray) -> float:
    """The kernel's mean over all pairs of different rows of `x`."""
    itself = (np.square(x).mean(1) + 1) ** 3
    return (_kernel_sum(x, x) - float(itself.sum())) / (len(x) * (len(x) - 1))


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for start in range(0, len(x), CHUNK):
        kernel = x[start : start + CHUNK] @ y.T / x.shape[1] + 1  # (CHUNK, M)
        total += float((kernel * kernel * kernel).sum())  # ** 3 is ten times slower
    return total
