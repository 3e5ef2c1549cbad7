"""What a code is drawn from: priors as deterministic maps from standard normal noise, so that they export.

Shapes: B batch, d latent dimensions, M mixture components.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.errors import InputError

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

COMPONENTS = (2, 5, 10, 20, 50)  # numbers of components to choose among
CODES_A_COMPONENT = 20  # at least, for a number to be chosen
CODES_TO_FIT = 10_000  # more sharpen a mixture no further; all of COMPONENTS take 5 s for so many of 20 dimensions
ITERATIONS = 50  # of expectation maximisation, at most; the last ones change the likelihood by 0.01 nats a code
SMALLEST_VARIANCE = 1e-4  # added to the covariances' diagonals, so that codes on a line have a density too


class Prior(nn.Module, ABC):
    """p(z) on d dimensions, sampled by pushing noise through `forward`."""

    noise_width: int
    choices: int = 0  # the first columns of the noise, which pick one of several

    @abstractmethod
    def forward(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, noise_width) -> codes (B, d)."""


class StandardNormal(Prior):
    """N(0, I): the noise itself."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.noise_width = latent

    def forward(self, noise: Tensor) -> Tensor:
        return noise


class Mixture(Prior):
    """A Gaussian mixture with full covariances, fitted to codes after training (Ghosh et al. 2020).

    With one component it is a Gaussian. The first noise column picks the component, by comparison with quantiles of
    the standard normal; the rest fills it.
    """

    thresholds: Tensor  # (M - 1), cumulative weights as quantiles of the standard normal
    means: Tensor  # (M, d)
    scales: Tensor  # (M, d, d), Cholesky factors of the covariances
    choices = 1

    def __init__(self, latent: int, components: int | None = None) -> None:
        """`components` is their number M; None where `fit` is to choose it."""
        super().__init__()
        self.noise_width = latent + 1
        self.wanted = components
        self.register_buffer("thresholds", torch.zeros((components or 1) - 1))
        self.register_buffer("means", torch.zeros(components or 1, latent))
        self.register_buffer("scales", torch.eye(latent).repeat(components or 1, 1, 1))
        self.register_load_state_dict_pre_hook(_make_room)

    @property
    def components(self) -> int:
        """Their number M, which `fit` may have chosen."""
        return len(self.means)

    def forward(self, noise: Tensor) -> Tensor:
        component = (noise[:, :1] > self.thresholds).sum(1)  #              (B)
        spread = self.scales[component] @ noise[:, 1:, None]  #             (B, d, 1)
        return self.means[component] + spread[..., 0]  #                    (B, d)

    def fit(self, codes: np.ndarray, held_out: np.ndarray, seed: int) -> None:
        """Fit by expectation maximisation to `codes` (N, d).

        Where the number of components is to be chosen, it is the last of `COMPONENTS` before codes that were
        `held_out` (M, d) become less likely, of those that leave `CODES_A_COMPONENT` different codes to each; else 1.

        Raises:
            InputError: there are fewer codes than components, or than the 2 that a variance needs, or they are not
                finite.
        """
        if not (np.isfinite(codes).all() and np.isfinite(held_out).all()):
            raise InputError("a prior must be fitted to finite codes, but some are NaN or infinite")
        if len(codes) < 2:
            raise InputError(f"a prior must be fitted to at least 2 training images, but got {len(codes)}")
        if len(codes) < (self.wanted or 1):
            raise InputError(
                f"components must be at most the number of training images, {len(codes)}, "
                f"but got components={self.wanted}"
            )
        chosen = np.random.default_rng(seed).permutation(len(codes))[:CODES_TO_FIT]
        codes, held_out = codes[chosen].astype(np.float64), held_out[:CODES_TO_FIT].astype(np.float64)
        self._take(_fitted(self.wanted, codes, seed) if self.wanted else _chosen(codes, held_out, seed))

    def _take(self, fitted: "GaussianMixture") -> None:
        cumulative = torch.from_numpy(np.cumsum(fitted.weights_)[:-1])
        self.thresholds = torch.special.ndtri(cumulative).to(self.thresholds)
        self.means = torch.from_numpy(fitted.means_).to(self.means)
        self.scales = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).to(self.scales)


def _make_room(mixture: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before weights are loaded: as many components as they have, because a chosen number is nowhere else."""
    saved = state.get(f"{prefix}means")
    if isinstance(mixture, Mixture) and saved is not None:
        mixture.thresholds = mixture.thresholds.new_zeros(len(saved) - 1)
        mixture.means, mixture.scales = (
            buffer[:1].repeat(len(saved), *(1 for _ in buffer.shape[1:])) for buffer in (mixture.means, mixture.scales)
        )


def _chosen(codes: np.ndarray, held_out: np.ndarray, seed: int) -> "GaussianMixture":
    """The mixture of (N, d) with the number of components at which the likelihood of `held_out` (M, d) peaks."""
    first, *others = _candidates(codes)
    best = _fitted(first, codes, seed)
    for number in others:
        mixture = _fitted(number, codes, seed)
        if mixture.score(held_out) <= best.score(held_out):
            break  # beyond the peak it only falls, and the largest mixtures take the longest
        best = mixture
    return best


def _candidates(codes: np.ndarray) -> list[int]:
    """The numbers of components to choose among for codes (N, d): copies count once, since they make no cluster."""
    different = len(np.unique(codes, axis=0))
    return [number for number in COMPONENTS if number * CODES_A_COMPONENT <= different] or [1]


def _fitted(components: int, codes: np.ndarray, seed: int) -> "GaussianMixture":
    from sklearn.exceptions import ConvergenceWarning  # here, because only training needs them and they load slowly
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(components, reg_covar=SMALLEST_VARIANCE, random_state=seed, max_iter=ITERATIONS, tol=1e-3)
    # One thread: the products are so small that others only wait, 13 times as long where the cores are busy.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # ITERATIONS are enough, converged or not
        return mixture.fit(codes)
