"""Mixture of Bernoullis: several kinds of images, within each of which every pixel is an independent coin.

    p(x) = sum_m w_m prod_i Bernoulli(x_i; p_mi)

Naive Bayes for each of several clusters, found by expectation maximisation (Bishop 2006, section 9.3.3): it knows which
pixels are white together, but only by the kind. As naive Bayes does, it counts grey pixels in part.

Adds: several mean images, one for each cluster of the data, so that pixels turn white together.
Lacks: variation within a cluster, other than noise in each pixel: samples are noisy cluster means.
"""

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import PositiveInt, Settings
from latentmill.contract import HasLikelihood
from latentmill.data.batches import Batches
from latentmill.draws import selected
from latentmill.networks import Shape
from latentmill.networks.bernoullis import Bernoullis, fitted
from latentmill.networks.mixtures import MixtureModel, candidates, most_likely, require_enough, take_saved_sizes
from latentmill.observations import Bernoulli, shares_of_ones

COMPONENTS = (5, 10, 20, 50, 100)  # numbers of them to choose among
IMAGES_A_COMPONENT = 10  # at least, for a number to be chosen
ITERATIONS = 30


class BernoulliMixture(MixtureModel, HasLikelihood):
    """The first column of noise selects the component, the rest the pixels."""

    logits: Tensor  # (M, D)
    thresholds: Tensor  # (M, D), the normal quantiles of the probabilities

    class Config(Settings):
        components: PositiveInt | None = None  # null: as many as make validation images most likely
        pseudocount: Annotated[float, Field(ge=1e-6)] = 1.0  # images like the mean of all, in each component

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        count = config.components or 1
        super().__init__(config, shape, classes, count)
        self.wanted, self.pseudocount, self.observation = config.components, config.pseudocount, Bernoulli()
        self.criterion_draws, self.noise_width = {"x": self.observation.draw(shape)}, 1 + prod(shape)
        for name in ("logits", "thresholds"):
            self.register_buffer(name, torch.zeros(count, prod(shape)))
        take_saved_sizes(self)

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """With the number of components at which the likelihood of `val` peaks, if it is not given.

        Raises:
            InputError: there are fewer images than components.
        """
        require_enough(examples, self.wanted or 1)
        shares = shares_of_ones(examples).flatten()
        order = torch.randperm(len(examples), generator=generator, device=generator.device)

        def fit(number: int) -> Bernoullis:
            return fitted(examples[order[:number]].flatten(1), examples.rows, shares, self.pseudocount, ITERATIONS)

        numbers = [self.wanted] if self.wanted else candidates(COMPONENTS, len(examples) // IMAGES_A_COMPONENT)
        found = most_likely(numbers, fit, lambda mixture: sum(float(mixture.log_p(x).sum()) for x in val.rows()))
        self.weigh(found.log_weights)
        self.logits = found.logits
        self.thresholds = torch.special.ndtri(torch.sigmoid(self.logits.double())).to(self.logits)

    def log_p_x(self, x: Tensor) -> Tensor:
        return Bernoullis(self.log_weights, self.logits).log_p(x.flatten(1))

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        component = selected(noise, self.borders)  # (B)
        return (noise[:, 1:] < self.thresholds[component]).float().unflatten(1, self.shape)
