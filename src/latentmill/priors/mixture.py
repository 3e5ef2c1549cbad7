"""A mixture of Gaussians with full covariances, fitted by expectation maximisation.

    p(z) = sum_m w_m N(z; mu_m, Sigma_m)

Sampling the codes of an autoencoder from one fills in for the prior that it was not trained with (Ghosh et al. 2020).
With one component it is a Gaussian. Shapes: B batch, d dimensions, M components.
"""

import warnings
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentmill.config import PositiveInt, Settings
from latentmill.contract import Batch, HasCriterion
from latentmill.data.batches import Batches
from latentmill.densities import standard_normal_log_prob
from latentmill.draws import Noise, selected
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.networks.mixtures import MixtureModel, candidates, most_likely, take_saved_sizes

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

COMPONENTS = (2, 5, 10, 20, 50)  # numbers of components to choose among
CODES_A_COMPONENT = 20  # at least, for a number to be chosen
CODES_TO_FIT = 10_000  # more sharpen a mixture no further; all of COMPONENTS take 5 s for so many of 20 dimensions
ITERATIONS = 50  # of expectation maximisation, at most; the last ones change the likelihood by 0.01 nats a code
SMALLEST_VARIANCE = 1e-4  # added to the covariances' diagonals, so that codes on a line have a density too


class Mixture(MixtureModel, HasCriterion):
    """The first noise column selects the component, the rest fills it."""

    means: Tensor  # (M, d)
    scales: Tensor  # (M, d, d), Cholesky factors of the covariances

    class Config(Settings):
        components: PositiveInt | None = None  # null: as many as make validation codes most likely

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        width, count = prod(shape), config.components or 1
        super().__init__(config, shape, classes, count)
        self.noise_width, self.wanted, self.criterion_draws = width + 1, config.components, {}
        self.register_buffer("means", torch.zeros(count, width))
        self.register_buffer("scales", torch.eye(width).repeat(count, 1, 1))
        take_saved_sizes(self)

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """Fit to the codes, with as many components as wanted.

        Where their number is to be chosen, it is the last of `COMPONENTS` before codes of `val` become less likely, of
        those that leave `CODES_A_COMPONENT` different codes to each; else 1.

        Raises:
            InputError: there are fewer codes than components, or than the 2 that a variance needs.
        """
        seed = generator.initial_seed() % 2**32
        if len(examples) < max(2, self.wanted or 1):
            rule = "a mixture must have at most as many components as codes, and 2 codes"
            raise InputError(f"{rule}, but got components={self.wanted} for {len(examples)} codes")
        codes, held_out = (torch.cat([*each.chunks()]).flatten(1).cpu().numpy() for each in (examples, val))
        chosen = np.random.default_rng(seed).permutation(len(codes))[:CODES_TO_FIT]
        codes, held_out = codes[chosen].astype(np.float64), held_out[:CODES_TO_FIT].astype(np.float64)
        different = len(np.unique(codes, axis=0))  # copies count once, since they make no cluster
        numbers = [self.wanted] if self.wanted else candidates(COMPONENTS, different // CODES_A_COMPONENT)
        self._take(most_likely(numbers, partial(_fitted, codes, seed), lambda mixture: mixture.score(held_out)))

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """-log p(z)."""
        centred = batch["code"].flatten(1)[:, None] - self.means  #                                      (B, M, d)
        # Rows of a component are solved for together: each alone would get a copy of its factor.
        white = torch.linalg.solve_triangular(self.scales, centred.permute(1, 2, 0), upper=False)  #     (M, d, B)
        log_p = standard_normal_log_prob(white).sum(1).T  #                                              (B, M)
        log_volumes = torch.diagonal(self.scales, dim1=1, dim2=2).log().sum(1)  #                        (M)
        return -torch.logsumexp(self.log_weights + log_p - log_volumes, dim=1)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        component = selected(noise, self.borders)  #                        (B)
        spread = self.scales[component] @ noise[:, 1:, None]  #             (B, d, 1)
        return (self.means[component] + spread[..., 0]).unflatten(1, self.shape)

    def _take(self, fitted: "GaussianMixture") -> None:
        self.weigh(torch.from_numpy(fitted.weights_).log().to(self.means))
        self.scales = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).to(self.means)
        self.means = torch.from_numpy(fitted.means_).to(self.means)


def _fitted(codes: np.ndarray, seed: int, components: int) -> "GaussianMixture":
    from sklearn.exceptions import ConvergenceWarning  # here, because only training needs them and they load slowly
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(components, reg_covar=SMALLEST_VARIANCE, random_state=seed, max_iter=ITERATIONS, tol=1e-3)
    # One thread: the products are so small that others only wait, 13 times as long where the cores are busy.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # ITERATIONS are enough, converged or not
        return mixture.fit(codes)
