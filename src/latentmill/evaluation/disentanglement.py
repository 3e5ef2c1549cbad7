"""How the dimensions of a code and the known factors of images go together: MIG and DCI.

Codes are (N, d), without noise; a factor is int64 (N), indices into its values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import mutual_info_score

from latentmill.contract import Encodes, HasCodebook, Model
from latentmill.data.factors import Factors
from latentmill.evaluation.latent import codes
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import random_indices

Matrix = npt.NDArray[np.float64]

COMPARED = 2_000  # test images, at most: the time of forests grows with them
BINS = 20  # of equal width, into which a dimension is divided for its mutual information
TREES, LEAF = 50, 5  # of a forest, and the fewest images of one of its leaves


@dataclass(frozen=True)
class Disentanglement:
    """Of the d dimensions of a code and of F factors."""

    names: list[str]  # F, of the factors
    gaps: Matrix  # (F,), of mutual information
    importance: Matrix  # (d, F), of each dimension in predicting each factor; columns sum to 1, or are 0
    accuracy: Matrix  # (F,), of the prediction: 1 if it is always right, 0 for guesses of the commonest value

    def metrics(self) -> dict[str, Any]:
        """The numbers of metrics.json: their means, and those of each factor."""
        found = {
            "mig": float(self.gaps.mean()),
            "disentanglement": disentanglement(self.importance),
            "completeness": completeness(self.importance),
            "informativeness": float(self.accuracy.mean()),
        }
        by_factor = {"mig_of": self.gaps, "informativeness_of": self.accuracy}
        return found | {key: dict(zip(self.names, of.tolist(), strict=True)) for key, of in by_factor.items()}


def compare_with_factors(model: Model, data: PreparedData, seed: int) -> Disentanglement | None:
    """The codes of test images and their factors. None where these are not known, or codes are no numbers.

    Raises:
        InputError: a code is not finite.
    """
    if data.test_factors is None or not isinstance(model, Encodes) or isinstance(model, HasCodebook):
        return None
    chosen = random_indices(data.test, COMPARED, seed)
    return compare(codes(model, data.test_batches(chosen)), data.test_factors.of(chosen), seed)


def compare(z: np.ndarray, factors: Factors, seed: int) -> Disentanglement | None:
    """Codes (N, d) and the factors of these N images that differ between them; None if none does."""
    varied = {
        name: factor
        for name, factor in zip(factors.values, factors.indices.T, strict=True)
        if len(np.unique(factor)) > 1
    }
    if not varied:
        return None
    gaps = [mutual_information_gap(z, factor) for factor in varied.values()]
    importance, accuracy = zip(*(_prediction(z, factor, seed) for factor in varied.values()), strict=True)
    return Disentanglement(list(varied), np.array(gaps), np.stack(importance, axis=1), np.array(accuracy))


def mutual_information_gap(z: np.ndarray, factor: np.ndarray) -> float:
    """(I(z_a; v) - I(z_b; v)) / H(v) for the two dimensions that know most of a factor v (N) (Chen et al. 2018).

    1 if one dimension tells the factor and no other knows of it, 0 if two know as much. Mutual information is that of
    the frequencies of v and of `BINS` bins of a dimension, in which a few images seem to share a little.
    """
    known = sorted((mutual_info_score(factor, _binned(column)) for column in z.T), reverse=True)
    first, second = (*known, 0.0)[:2]
    return float((first - second) / mutual_info_score(factor, factor))


def disentanglement(importance: Matrix) -> float:
    """Whether each dimension is of use for one factor alone, 0 to 1 (Eastwood & Williams 2018).

        D = sum_i rho_i (1 - H_F(P_i)),  P_ij = R_ij / sum_k R_ik,  rho_i = sum_k R_ik / sum_jk R_jk

    R (d, F) is the importance of each dimension for each factor, H_F the entropy to the base F.
    """
    weights = importance.sum(1)
    return float(_concentration(importance) @ weights / weights.sum()) if weights.any() else 0.0


def completeness(importance: Matrix) -> float:
    """Whether one dimension alone is of use for each factor, 0 to 1: the mean of 1 - H_d(P_j) over factors (the same).

    1 if there is but one dimension.
    """
    return float(_concentration(importance.T).mean())


def _concentration(rows: Matrix) -> Matrix:
    """1 - the entropy of each row (N, K) as shares of its sum, to the base K; 0 for a row of zeros."""
    sums = rows.sum(1, keepdims=True)
    shares = np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0)
    entropy = -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum(1)
    return np.where(sums[:, 0] > 0, 1 - entropy / np.log(max(2, rows.shape[1])), 0.0)


def _binned(column: np.ndarray) -> np.ndarray:
    """The bin of each value."""
    return np.digitize(column, np.linspace(column.min(), column.max(), BINS + 1)[1:-1])


def _prediction(z: np.ndarray, factor: np.ndarray, seed: int) -> tuple[Matrix, float]:
    """The importance of each dimension (d) in a forest that predicts a factor, and the forest's accuracy.

    Each image is predicted by the trees that were fitted without it. Every split may use any dimension: else one that
    knows nothing is used where the others are not offered.
    """
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=LEAF, max_features=None, oob_score=True, random_state=seed
    ).fit(z, factor)
    guessed = np.bincount(factor).max() / len(factor)
    return forest.feature_importances_, (forest.oob_score_ - guessed) / (1 - guessed)
