"""What a code is drawn from: priors as deterministic maps from standard normal noise, so that they export.

Shapes: B batch, d latent dimensions, M mixture components.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.errors import InputError

CODES_TO_FIT = 20_000  # more codes sharpen a mixture no further, but cost time


class Prior(nn.Module, ABC):
    """p(z) on d dimensions, sampled by pushing noise through `forward`."""

    noise_width: int

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

    The first noise column picks the component, by comparison with quantiles of the standard normal; the rest
    fills it.
    """

    thresholds: Tensor  # (M - 1), cumulative weights as quantiles of the standard normal
    means: Tensor  # (M, d)
    scales: Tensor  # (M, d, d), Cholesky factors of the covariances

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.noise_width = latent + 1
        self.register_buffer("thresholds", torch.zeros(components - 1))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("scales", torch.eye(latent).repeat(components, 1, 1))

    def forward(self, noise: Tensor) -> Tensor:
        component = (noise[:, :1] > self.thresholds).sum(1)  #              (B)
        spread = self.scales[component] @ noise[:, 1:, None]  #             (B, d, 1)
        return self.means[component] + spread[..., 0]  #                    (B, d)

    def fit(self, codes: np.ndarray, seed: int) -> None:
        """Fit by expectation maximisation to `codes` (N, d).

        Raises:
            InputError: there are fewer codes than components.
        """
        from sklearn.mixture import GaussianMixture  # here, because only training needs it and it is slow to import

        if len(codes) < len(self.means):
            raise InputError(
                f"components must be at most the number of training images, {len(codes)}, "
                f"but got components={len(self.means)}"
            )
        chosen = np.random.default_rng(seed).permutation(len(codes))[:CODES_TO_FIT]
        fitted = GaussianMixture(len(self.means), reg_covar=1e-4, random_state=seed, max_iter=200)
        fitted.fit(codes[chosen].astype(np.float64))
        cumulative = torch.from_numpy(np.cumsum(fitted.weights_)[:-1])
        self.thresholds.copy_(torch.special.ndtri(cumulative))
        self.means.copy_(torch.from_numpy(fitted.means_))
        self.scales.copy_(torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)))
