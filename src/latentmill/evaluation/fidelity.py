"""Rule 1, samples look drawn from the data: metrics of fidelity and diversity, as pure functions of features.

Features are float32 (N, D) of samples and (M, D) of real images, both from one feature space, and finite. A metric
is only as good as its features, and its bias depends on N and M: compare values only between sets of the same sizes,
and with the value of real images that no model was trained on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from latentmill.features.distances import TooFew, require

CHUNK = 1_000  # rows of an N×M matrix held at a time
FOLDS = 5  # of the cross-validation
SMALLEST_BANDWIDTH = 1e-12  # in place of 0, by which one cannot divide
FEWEST_OF_A_GROUP = 10  # real images, for its share to be known
LARGEST = 2_000  # images of a set, for metrics whose time grows faster than with their square: a few s for this many


@dataclass(frozen=True)
class Prdc:
    """Shares in [0, 1], except the density, which is at least 0 and about 1 for samples like the data."""

    precision: float  # samples that lie in some ball of a real image
    recall: float  # real images that lie in some ball of a sample
    density: float  # balls of real images that a sample lies in, on average, over k
    coverage: float  # real images whose ball holds some sample


def prdc(samples: np.ndarray, real: np.ndarray, k: int = 5, real_radii: np.ndarray | None = None) -> Prdc:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), in O(N + M) memory.

    A ball is centred on an image and reaches to its k-th nearest other image of the same set, without its surface.
    Therefore an image with k copies has an empty ball, and if all points are the same, all four are 0. `real_radii` (M)
    are the real images' `radii`, if they are known.

    Raises:
        TooFew: there are no k others.
    """
    require(k + 1, samples, real)
    x, y = (torch.tensor(points, dtype=torch.float32) for points in (samples, real))
    x_radii = torch.tensor(radii(samples, k))  # (N)
    y_radii = torch.tensor(radii(real, k) if real_radii is None else real_radii)  # (M)
    balls = torch.zeros(len(x), dtype=torch.float64)  # of real images, around each sample
    recalled, covered = (torch.zeros(len(y), dtype=torch.bool) for _ in range(2))
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = _distances(x[rows], y)  # (CHUNK, M)
        inside = distances < y_radii
        balls[rows] = inside.sum(1).double()
        covered |= inside.any(0)
        recalled |= (distances < x_radii[rows, None]).any(0)
    precision = (balls > 0).double().mean()
    shares = (precision, recalled.double().mean(), balls.mean() / k, covered.double().mean())
    return Prdc(*(float(share) for share in shares))


def radii(points: np.ndarray, k: int = 5) -> np.ndarray:
    """The distance from each of `points` (N, D) to its k-th nearest other: float32 (N).

    Raises:
        TooFew: there are no k others.
    """
    require(k + 1, points)
    rows = torch.tensor(points, dtype=torch.float32)
    nearest = [_distances(some, rows).kthvalue(k + 1, dim=1).values for some in rows.split(CHUNK)]
    return np.asarray(torch.cat(nearest))  # itself is the first


def c2st_accuracy(samples: np.ndarray, real: np.ndarray, seed: int) -> float:
    """Classifier two-sample test (C2ST, Lopez-Paz & Oquab 2017): the accuracy on unseen samples and real images.

    It is cross-validated and balanced over both sets: 0.5 is chance, 1 is certain. Where samples are copies of the real
    images, it is below 0.5, because the copy of a held-out image has the other label. `seed` draws the folds, and the
    images that are used of sets larger than `LARGEST`.

    Raises:
        TooFew: a set has fewer images than there are folds.
    """
    require(FOLDS, samples, real)
    draws = np.random.default_rng(seed)
    x, y = (draws.permutation(points)[:LARGEST].astype(np.float64) for points in (samples, real))
    points, labels = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    # Measured on the components of 540 digits and 1 500 MNIST images per set, as accuracies for other real images /
    # slightly blurred ones / their projection on 16 components: SVC 0.49 / 0.89, 0.84 / 1.00, 1.00 in 0.1 s, 0.9 s;
    # gradient boosting 0.50 / 0.97, 0.72 / 1.00, 1.00 in 1.6 s, 2.0 s; a network of 64 units 0.49 / 0.89, 0.66 /
    # 0.97, 0.99 in 0.9 s, 2.2 s; logistic regression 0.50 / 0.87, 0.48 / 0.74, 0.63; 5 neighbours 0.48 / 0.72, 0.53 /
    # 0.61, 0.65. Without one class of ten, where 0.55 is the most that is possible, all give 0.51 to 0.54.
    # The kernel takes three quarters of the time, so it is computed once for all folds.
    kernel = rbf_kernel(StandardScaler().fit_transform(points), gamma=1 / points.shape[1])
    classifier = SVC(kernel="precomputed", C=3.0, class_weight="balanced")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return float(balanced_accuracy_score(labels, cross_val_predict(classifier, kernel, labels, cv=folds)))


def vendi_score(samples: np.ndarray, bandwidth: float) -> float:
    """The effective number of different images (Friedman & Dieng 2023) among the first `LARGEST`: from 1 to N.

    exp of the entropy of the eigenvalues of K / N, with K_ij = exp(-|x_i - x_j|² / 2 bandwidth²). The paper's cosine
    kernel does not change when all samples shrink toward the mean, and centred features have no more than D directions.
    With a bandwidth of 0 only copies are similar. It grows with N.

    Raises:
        TooFew: there are no samples.
    """
    require(1, samples)
    squares = squareform(pdist(samples[:LARGEST].astype(np.float64), "sqeuclidean"))
    kernel = np.exp(-squares / (2 * max(bandwidth, SMALLEST_BANDWIDTH) ** 2))
    shares = np.linalg.eigvalsh(kernel / len(kernel))
    shares = shares[shares > 0]  # rounding leaves some a little below
    return float(np.exp(-(shares * np.log(shares)).sum()))


def bandwidth(real: np.ndarray) -> float:
    """The `bandwidth` for the Vendi score: half the median distance between two of the first `LARGEST` real images.

    It does not depend on the number of images, and if they form clusters it is about a cluster's width.

    Raises:
        TooFew: there are fewer than the 2 images that a pair needs.
    """
    require(2, real)
    return float(np.median(pdist(real[:LARGEST].astype(np.float64)))) / 2


def class_distance(sample_classes: np.ndarray, real_classes: np.ndarray, classes: int) -> float:
    """Total variation between the shares of classes, from indices below `classes`, (N) and (M): 0 same, 1 disjoint.

    Raises:
        TooFew: a set is empty.
    """
    require(1, sample_classes, real_classes)
    shares, others = (
        np.bincount(indices, minlength=classes) / len(indices) for indices in (sample_classes, real_classes)
    )
    return 0.5 * float(np.abs(shares - others).sum())


def rarest_group(sample_groups: np.ndarray, real_groups: np.ndarray) -> float:
    """The least share of any group among the samples over its share among real images: 0 missing, at most 1.

    Groups are classes or clusters, as (N) and (M) indices. Those with fewer than `FEWEST_OF_A_GROUP` real images are
    left out, because their share is not known.

    Raises:
        TooFew: that leaves none.
    """
    groups, counts = np.unique(real_groups, return_counts=True)
    known = counts >= FEWEST_OF_A_GROUP
    if not known.any():
        raise TooFew(f"a group needs at least {FEWEST_OF_A_GROUP} real images, but the largest has {max(counts)}")
    require(1, sample_groups)
    ours = np.array([(sample_groups == group).mean() for group in groups[known]])
    return min(1.0, float((ours / (counts[known] / len(real_groups))).min()))


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(N, D), (M, D) -> (N, M), from differences: with products, copies would not have the distance 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
