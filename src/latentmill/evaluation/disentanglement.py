"""How the dimensions of a code and the known factors of the images go together: MIG and DCI.

Codes are (N, d), without noise; factors are int64 (N, F), indices into the values of each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import mutual_info_score

from latentmill.data.factors import Factors

Matrix = npt.NDArray[np.float64]

BINS = 20  # of equal width, into which a dimension is divided for its mutual information
TREES, LEAF = 100, 5  # of a forest, and the fewest images of one of its leaves


@dataclass(frozen=True)
class Disentanglement:
    """Of the d dimensions of a code and F factors that have several values."""

    names: list[str]  # F, of the factors
    gaps: Matrix  # (F,), of mutual information
    importance: Matrix  # (d, F), of each dimension in the prediction of each factor; columns sum to 1, or are 0
    accuracy: Matrix  # (F,), of the prediction: 0 for the guess of the commonest value, 1 if it is always right

    def metrics(self) -> dict[str, Any]:
        """The numbers of metrics.json."""
        found = {
            "mig": float(self.gaps.mean()),
            "disentanglement": disentanglement(self.importance),
            "completeness": completeness(self.importance),
            "informativeness": float(self.accuracy.mean()),
        }
        by_factor = {"mig_of": self.gaps, "informativeness_of": self.accuracy}
        return found | {key: dict(zip(self.names, map(float, of), strict=True)) for key, of in by_factor.items()}


def compare(z: np.ndarray, factors: Factors, seed: int) -> Disentanglement | None:
    """Codes and the factors of the same images; None if none of these has several values among them."""
    varied = [place for place, column in enumerate(factors.indices.T) if len(np.unique(column)) > 1]
    if not varied:
        return None
    fitted = [_prediction(z, factors.indices[:, place], seed) for place in varied]
    return Disentanglement(
        [list(factors.values)[place] for place in varied],
        np.array([mutual_information_gap(z, factors.indices[:, place]) for place in varied]),
        np.stack([importance for importance, _ in fitted], axis=1),
        np.array([accuracy for _, accuracy in fitted]),
    )


def mutual_information_gap(z: np.ndarray, factor: np.ndarray) -> float:
    """(I(z_a; v) - I(z_b; v)) / H(v) for the two dimensions that know most of a factor v, (N) (Chen et al. 2018).

    The mutual information is that of the frequencies of v and of each dimension in `BINS` bins. 1: one dimension tells
    the factor, and no other knows of it; 0: two know as much, or none anything.
    """
    known = sorted((mutual_info_score(factor, _binned(column)) for column in z.T), reverse=True)
    first, second = (known + [0.0])[:2]
    return float((first - second) / mutual_info_score(factor, factor))


def disentanglement(importance: Matrix) -> float:
    """Whether each dimension is of use for one factor alone, 0 to 1 (Eastwood & Williams 2018).

        D = sum_i rho_i (1 - H_F(P_i)),  P_ij = R_ij / sum_k R_ik,  rho_i = sum_j R_ij / sum_kj R_kj

    R is the importance (d, F) of dimension i for factor j, and H_F the entropy to the base F.
    """
    weights = importance.sum(1)
    return float(_concentration(importance) @ weights / weights.sum()) if weights.any() else 0.0


def completeness(importance: Matrix) -> float:
    """Whether each factor is told by one dimension alone, 0 to 1: the mean over factors of 1 - H_d(P_j) (the same)."""
    return float(_concentration(importance.T).mean())


def _concentration(rows: Matrix) -> Matrix:
    """1 minus the entropy of each row (N, K) as a distribution, to the base K; 0 for a row of zeros."""
    totals, several = rows.sum(1, keepdims=True), rows.shape[1] > 1
    shares = np.divide(rows, totals, out=np.zeros_like(rows), where=totals > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(1) / (np.log(rows.shape[1]) if several else 1.0)
    return np.where(totals[:, 0] > 0, 1 - entropy, 0.0)


def _binned(column: np.ndarray) -> np.ndarray:
    """The number of the bin of each value; all in one where they are equal."""
    return np.digitize(column, np.linspace(column.min(), column.max(), BINS + 1)[1:-1])


def _prediction(z: np.ndarray, factor: np.ndarray, seed: int) -> tuple[Matrix, float]:
    """The importance of each dimension (d) in a forest that predicts the factor, and its accuracy, both from `compare`.

    Each image is predicted by the trees that did not see it. Splits choose among all dimensions, so that one that knows
    nothing is not used for want of another.
    """
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=LEAF, max_features=None, oob_score=True, random_state=seed
    ).fit(z, factor)
    guess = np.bincount(factor).max() / len(factor)
    return forest.feature_importances_, (forest.oob_score_ - guess) / (1 - guess)
