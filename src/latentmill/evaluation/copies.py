"""Rule 2: samples are suitably different from the training data.

Every function takes the distances of samples to their nearest training images. Their baseline are images that no model
has copied: training images compared with one another, and held-out ones.
"""

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import binomtest, rankdata
from sklearn.metrics.pairwise import euclidean_distances

from latentmill.evaluation.neighbours import Neighbours

FEW, IMAGES = 0.2, 500  # share of copies among so many images, which a threshold should reveal
THRESHOLDS = np.linspace(0.01, 0.99, 99)  # of relative distances
SAME = 0.01  # of the median distance between training images: less than the rounding to bytes
CELL_SIZE = 10  # samples, and test images, that a cell needs to be compared
EM_STEPS = 10
SMALLEST_DEVIATION = 1e-2  # of a feature, beside the largest
SMALLEST_VARIANCE = 1e-4  # of features of variance 1: a Gaussian on a copy would become infinitely narrow


def relative_distances(neighbours: Neighbours) -> np.ndarray:
    """The distance to the nearest training image over that to the K-th nearest: (N), in [0, 1].

    Near 0 for a copy; near 1 where no training image stands out. Blur moves an image nearer to all training images to
    the same extent, so it does not look like copying, as it would if the distances themselves were compared. 1 where
    all K have the distance 0: the image occurs K times in the data, and none of these stands out.
    """
    nearest, last = neighbours.distances[:, 0], neighbours.distances[:, -1]
    return np.divide(nearest, last, out=np.ones_like(nearest), where=last > 0)


def near_copy_threshold(among_themselves: Neighbours, copies: Neighbours) -> float:
    """The relative distance below which an image is a near copy: the best threshold to detect `copies`.

    `among_themselves` are the neighbours of training images among the others, `copies` those of noisy copies. At this
    threshold `FEW` copies among `IMAGES` stand out by as many standard deviations as possible. Thus near-duplicates in
    the data matter only in proportion to their number.
    """
    real, copied = (np.sort(relative_distances(each)) for each in (among_themselves, copies))
    p = (np.searchsorted(real, THRESHOLDS) + 1) / (len(real) + 2)  # never known to be 0
    q = np.searchsorted(copied, THRESHOLDS) / len(copied)
    return float(THRESHOLDS[deviations_apart(p, q).argmax()])


def deviations_apart(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """How far the share of `IMAGES` below a threshold moves when `FEW` are copies, in deviations of both shares.

    `p` is the share of real images below it, `q` that of copies.
    """
    mixed = (1 - FEW) * p + FEW * q
    spread = sum(np.sqrt(np.maximum(share * (1 - share), 1 / IMAGES) / IMAGES) for share in (p, mixed))
    return (mixed - p) / spread


def exact_copy_distance(among_themselves: Neighbours) -> float:
    """The distance below which an image is a training image: a hundredth of the median distance between these."""
    return SAME * float(np.median(among_themselves.distances[:, 0]))


def are_exact_copies(neighbours: Neighbours, distance: float) -> np.ndarray:
    """Which images are training images, except for rounding: bool (N)."""
    return neighbours.distances[:, 0] <= distance


def are_near_copies(neighbours: Neighbours, threshold: float) -> np.ndarray:
    """Which images are much nearer to one training image than to others: bool (N)."""
    return relative_distances(neighbours) < threshold


def near_copy_metrics(samples: Neighbours, test: Neighbours, threshold: float) -> dict[str, float]:
    """The share of near copies, with its 95 % interval (Wilson 1927), and that among test images."""
    copied = int(are_near_copies(samples, threshold).sum())
    interval = binomtest(copied, len(samples)).proportion_ci(method="wilson")
    held_out = float(are_near_copies(test, threshold).mean())
    return {"share": copied / len(samples), "low": interval.low, "high": interval.high, "held_out": held_out}


def authenticity(samples: Neighbours, own: np.ndarray) -> float:
    """The share of samples that are farther from their nearest training image than that is from its own nearest.

    Alaa et al. 2022, in [0, 1]; about a half for new images from the same distribution. `own` (N) is the distance of
    each sample's nearest training image to its own nearest.
    """
    return float((samples.distances[:, 0] > own).mean())


def c_t(samples: Neighbours, sample_cells: np.ndarray, test: Neighbours, test_cells: np.ndarray) -> float:
    """C_T (Meehan et al. 2020): below 0 where samples are nearer to the training data than test images are.

    It is the Z-score of the Mann-Whitney U of the distances to the nearest training image, averaged over cells with the
    share of test images as weight. Cells with fewer than `CELL_SIZE` samples or test images are left out; if none is
    left, all images form one cell.
    """
    ours, theirs = samples.distances[:, 0], test.distances[:, 0]
    full = [
        cell
        for cell in np.unique(test_cells)
        if min(np.sum(sample_cells == cell), np.sum(test_cells == cell)) >= CELL_SIZE
    ]
    if not full:
        return _z(ours, theirs)
    scores = [_z(ours[sample_cells == cell], theirs[test_cells == cell]) for cell in full]
    return float(np.average(scores, weights=[np.sum(test_cells == cell) for cell in full]))


def _z(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mann-Whitney U, standardised: below 0 where `ours` are smaller.

    From the ranks: with the p-value, which scipy's test also computes, it takes ten times as long.
    """
    n, m = len(ours), len(theirs)
    u = rankdata(np.concatenate([ours, theirs]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def likelihood_gap(samples: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """How much more probable training images are than test images given the samples, in nats per dimension.

    The generalisation gap of the feature likelihood (Jiralerspong et al. 2023): the density has a Gaussian on each
    sample, whose width is fitted to the training images. On a copy it becomes narrow, which makes test images
    improbable. All are features, (N, D), (M, D) and (L, D). Widths are fitted by expectation maximisation, whereas the
    paper uses gradient descent.
    """
    deviations = train.std(0)
    varying = deviations > SMALLEST_DEVIATION * deviations.max()  # the others are noise, or constant
    if not varying.any():
        return 0.0  # all training images are the same, and so is any copy of them
    scale = deviations[varying]
    samples, train, test = ((features[:, varying] / scale).astype(np.float32) for features in (samples, train, test))
    to_train, to_test = _squared(samples, train), _squared(samples, test)
    dimensions = samples.shape[1]
    variances = np.maximum(to_train.min(1) / dimensions, SMALLEST_VARIANCE)
    for _ in range(EM_STEPS):
        shares = softmax(_log_densities(to_train, variances, dimensions), axis=0)  # of each training image
        weights = shares.sum(1)
        fitted = (shares * to_train).sum(1) / np.maximum(dimensions * weights, 1e-12)
        variances = np.maximum(np.where(weights > 1e-6, fitted, variances), SMALLEST_VARIANCE)
    gap = _mean_log_density(to_train, variances, dimensions) - _mean_log_density(to_test, variances, dimensions)
    return gap / dimensions


def _log_densities(squared: np.ndarray, variances: np.ndarray, dimensions: int) -> np.ndarray:
    return -0.5 * squared / variances[:, None] - 0.5 * dimensions * np.log(variances)[:, None]


def _mean_log_density(squared: np.ndarray, variances: np.ndarray, dimensions: int) -> float:
    """Up to a constant."""
    return float(logsumexp(_log_densities(squared, variances, dimensions), axis=0).mean())


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances: (N, D), (M, D) -> (N, M)."""
    return np.asarray(euclidean_distances(a, b, squared=True))
