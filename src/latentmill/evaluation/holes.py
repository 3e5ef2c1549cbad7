"""Holes: does a prior draw codes where no image's code is? The decoder was not trained there.

Codes are float32 (N, d): N draws or images, d dimensions. The codes of images are draws from their posteriors, if they
have one, of images that the prior was not fitted to.
"""

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ks_2samp

from latentmill.contract import Decodes
from latentmill.evaluation.fidelity import SMALLEST_BANDWIDTH, c2st_accuracy
from latentmill.evaluation.latent import decode
from latentmill.features.distances import TooFew
from latentmill.features.spaces import Features

LARGEST = 2_000  # codes compared, at most
DECODED = 1_000  # codes that are decoded, of each set, at most
SIGNIFICANCE = 0.01  # of all dimensions together


def prior_metrics(draws: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Draws of a prior (N, d) against codes (M, d), the first `LARGEST` of each, jointly and by dimension.

    `largest_ks` is the largest Kolmogorov-Smirnov statistic of a dimension, from 0 to 1. `dimensions_off` are those
    in which the two differ more than by chance, at a level of 1% for all dimensions together.

    Raises:
        TooFew: there are not the 2 of each that a variance needs.
    """
    draws, codes = draws[:LARGEST].astype(np.float64), codes[:LARGEST].astype(np.float64)
    tests = [ks_2samp(*pair, method="asymp") for pair in zip(draws.T, codes.T, strict=True)]
    off = sum(test.pvalue < SIGNIFICANCE / len(tests) for test in tests)  # Bonferroni
    largest = max(float(test.statistic) for test in tests)
    return {"mmd": discrepancy(draws, codes), "largest_ks": largest, "dimensions_off": int(off)}


def discrepancy(draws: np.ndarray, codes: np.ndarray) -> float:
    """The squared maximum mean discrepancy (Gretton et al. 2012), unbiased: 0 on average for equal sets, at most 2.

    With the kernel exp(-|x - y|² / 2 h²). h is the median distance between two codes, so that values of the priors of a
    model compare, and the scale of the codes does not matter.

    Raises:
        TooFew: a set has fewer than the 2 codes that a pair needs.
    """
    if min(len(draws), len(codes)) < 2:
        raise TooFew(f"the discrepancy needs 2 codes of each set, but got {len(draws)} and {len(codes)}")
    among_codes = pdist(codes, "sqeuclidean")
    bandwidth = max(float(np.median(np.sqrt(among_codes))), SMALLEST_BANDWIDTH)

    def mean_kernel(squares: np.ndarray) -> float:
        return float(np.exp(-squares / (2 * bandwidth**2)).mean())

    across = mean_kernel(cdist(draws, codes, "sqeuclidean"))
    return mean_kernel(pdist(draws, "sqeuclidean")) + mean_kernel(among_codes) - 2 * across


def decoded_c2st_accuracy(
    model: Decodes,
    codes: np.ndarray,
    others: np.ndarray,
    features: Features,
    seed: int,
    labels: np.ndarray | None = None,
    other_labels: np.ndarray | None = None,
) -> float:
    """The C2ST accuracy of decoded codes (N, d) against decoded others (M, d): 0.5 is chance, 1 certain.

    For a conditional model, `labels` (N) and `other_labels` (M) are those of the codes.

    For draws of a prior against codes of test images it is 0.5 where the prior has no holes. The baseline without holes
    is the value for codes of training images against those of test images. Both sets have the same size, `DECODED` at
    most, and are chosen by `seed`.

    Raises:
        TooFew: there are fewer than 5 of one.
    """
    count, chosen = min(DECODED, len(codes), len(others)), np.random.default_rng(seed)
    pairs = [(z, label, chosen.permutation(len(z))[:count]) for z, label in ((codes, labels), (others, other_labels))]
    made = [decode(model, z[order], None if label is None else label[order]) for z, label, order in pairs]
    return c2st_accuracy(features(made[0]), features(made[1]), seed)
