"""Mixture of Bernoullis: several kinds of images, within each of which every pixel is an independent coin.

    p(x) = sum_m w_m prod_i Bernoulli(x_i; p_mi)

Naive Bayes for each of several clusters, found by expectation maximisation (Bishop 2006, section 9.3.3): it knows which
pixels are white together, but only by the kind. As naive Bayes does, it counts grey pixels in part.

Adds: several mean images, one for each cluster of the data, so that pixels turn white together.
Lacks: variation within a cluster, other than noise in each pixel: samples are noisy cluster means.
"""

import math
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.config import PositiveInt, Settings
from latentmill.contract import Generates, HasLikelihood, Model
from latentmill.data.batches import Batches
from latentmill.draws import borders, selected
from latentmill.networks import Shape
from latentmill.networks.saved_sizes import take_saved_sizes
from latentmill.observations import Bernoulli, shares_of_ones

COMPONENTS = (5, 10, 20, 50, 100)  # numbers of them to choose among
IMAGES_A_COMPONENT = 10  # at least, for a number to be chosen
ITERATIONS = 30


class BernoulliMixture(Model, Generates, HasLikelihood):
    """The first column of noise selects the component, by comparison with quantiles of N(0, 1); the rest the pixels."""

    closed_form = True
    noise_choices = 1
    log_weights: Tensor  # (M)
    logits: Tensor  # (M, D)
    borders: Tensor  # (M - 1), cumulative weights as quantiles of the standard normal
    thresholds: Tensor  # (M, D), the normal quantiles of the probabilities

    class Config(Settings):
        components: PositiveInt | None = None  # null: as many as make validation images most likely
        pseudocount: Annotated[float, Field(gt=0)] = 1.0  # images like the mean of all, in each component

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.wanted, self.pseudocount, self.observation = config.components, config.pseudocount, Bernoulli()
        self.criterion_draws, self.noise_width = {"x": self.observation.draw(shape)}, 1 + prod(shape)
        count = config.components or 1
        self.register_buffer("log_weights", torch.zeros(count))
        self.register_buffer("borders", torch.zeros(count - 1))
        for name in ("logits", "thresholds"):
            self.register_buffer(name, torch.zeros(count, prod(shape)))
        take_saved_sizes(self)

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """With the number of components at which the likelihood of `val` peaks, if it is not given."""
        shares = shares_of_ones(examples).flatten().to(self.logits)
        best, state = -torch.inf, generator.get_state()
        for number in [self.wanted] if self.wanted else _candidates(len(examples)):
            generator.set_state(state)
            before = self.log_weights, self.logits
            self._fit(number, shares, examples, generator)
            found = sum(float(self._log_joint(x.flatten(1)).logsumexp(1).sum()) for x in val.chunks())
            if found <= best:
                self.log_weights, self.logits = before
                break
            best = found
        self.borders = borders(self.log_weights.exp())
        self.thresholds = torch.special.ndtri(torch.sigmoid(self.logits))

    def log_p_x(self, x: Tensor) -> Tensor:
        return self._log_joint(x.flatten(1)).logsumexp(1)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        component = selected(noise, self.borders)  # (B)
        return (noise[:, 1:] < self.thresholds[component]).float().unflatten(1, self.shape)

    def _log_joint(self, x: Tensor) -> Tensor:
        """log p(x, m) of each component m, of x (B, D), its mean where x is grey: (B, M)."""
        return x @ self.logits.T - softplus(self.logits).sum(1) + self.log_weights

    def _fit(self, number: int, shares: Tensor, examples: Batches, generator: torch.Generator) -> None:
        """From random images, halfway to the `shares` of ones (D) of all."""
        first = torch.randperm(len(examples), generator=generator, device=generator.device)[:number]
        self.log_weights = shares.new_full((len(first),), -math.log(len(first)))
        self.logits = torch.logit((examples[first].flatten(1) + shares) / 2, eps=1e-3)
        for _ in range(ITERATIONS):
            counts = shares.new_full((len(first),), self.pseudocount)  # (M)
            ones = counts[:, None] * shares  # (M, D)
            for x in examples.chunks():
                belongs = self._log_joint(x.flatten(1)).softmax(1)  # (B, M)
                counts, ones = counts + belongs.sum(0), ones + belongs.T @ x.flatten(1)
            self.log_weights, self.logits = (counts / counts.sum()).log(), torch.logit(ones / counts[:, None])


def _candidates(images: int) -> list[int]:
    return [number for number in COMPONENTS if number * IMAGES_A_COMPONENT <= images] or [1]
