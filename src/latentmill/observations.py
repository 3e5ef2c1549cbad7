"""Observation models p(x | pixel parameters): what an image is taken to be a draw from.

Likelihoods are comparable only between models that share a sample space: binary pixels are one, real-valued
pixels another. Shapes: B batch, K samples, C, H, W image; parameters have the shape of the images.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.components import Chunks
from latentmill.data.batches import Batches
from latentmill.densities import bernoulli_log_prob, discretized_logistic_log_prob, gaussian_log_prob
from latentmill.draws import Draw

ObservationName = Literal["bernoulli", "gaussian", "discretized_logistic"]

NEARLY = 16  # levels of 255 from black or white
NEAR_BINARY = 0.8  # share of values nearly black or white from which images are taken as binary
LOOKED_AT = 2000  # images, for that share

# Adam moves each parameter by about the learning rate a step. A log-variance goes from one to some thousandths while
# the weights move by little, so it is this many times a parameter.
SPEED = 10.0


class Observation(nn.Module, ABC):
    """p(x | parameters), independent over pixels."""

    sample_space: str  # what x is, as the report names it
    log_volume: float  # nats per pixel that turn a log-density of x into one of 8-bit pixel values

    @abstractmethod
    def draw(self, shape: tuple[int, ...]) -> Draw:
        """The noise behind the x of an image (C, H, W)."""

    @abstractmethod
    def observed(self, images: Tensor, noise: Tensor) -> Tensor:
        """The x that is modelled, from grey values `images` (B, C, H, W) in [0, 1] and their noise (B, C, H, W)."""

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same, with noise from `generator`."""
        return self.observed(images, self.draw(tuple(images.shape[1:])).rows(len(images), generator))

    def looks(self, examples: Batches, generator: torch.Generator) -> Chunks:
        """All images as rows of observed pixels, over and over: at each look the noise from `generator` is the same."""
        state = generator.get_state()

        def observed() -> Iterator[Tensor]:
            generator.set_state(state)
            return (self.observe(chunk, generator).flatten(1) for chunk in examples.chunks())

        return observed

    @abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters), summed over pixels: (..., B, C, H, W) -> (..., B)."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters] as an image in [0, 1], the shape unchanged."""


class Bernoulli(Observation):
    """Binary pixels, each drawn with its grey value as the probability; parameters are logits."""

    sample_space = "pixels binarised at random, P(1) = grey value"
    log_volume = 0.0

    def draw(self, shape: tuple[int, ...]) -> Draw:
        return Draw("bits", shape)

    def observed(self, images: Tensor, noise: Tensor) -> Tensor:
        return binarised(images, noise)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return bernoulli_log_prob(x.flatten(-3), parameters.flatten(-3))

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


class Gaussian(Observation):
    """Real-valued pixels around a mean with one learned variance; 8-bit values are dequantised uniformly.

    The mean is the sigmoid of the parameters: networks then learn what is black or white faster than by the parameters
    themselves, which a `linear` model needs.

    x = (value + u) / 256 with u ~ U(0, 1) makes the density's integral over a value's cell a probability
    (Theis et al. 2016); one shared, learned variance is the sigma-VAE (Rybkin et al. 2021).
    """

    sample_space = "8-bit pixels dequantised uniformly, density on [0, 1]"
    log_volume = -5.545177444479562  # -log 256: the cell of one pixel value

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.exponent = nn.Parameter(torch.tensor(-3.0 / SPEED))

    @torch.no_grad()
    def set_variance(self, variance: float) -> None:
        """Of a model that knows it in closed form."""
        self.exponent.fill_(math.log(variance) / SPEED)

    def draw(self, shape: tuple[int, ...]) -> Draw:
        return Draw("uniform", shape)

    def observed(self, images: Tensor, noise: Tensor) -> Tensor:
        return dequantised(images, noise)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        mean = parameters if self.linear else torch.sigmoid(parameters)
        return gaussian_log_prob(x, mean, SPEED * self.exponent).flatten(-3).sum(-1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(0, 1) if self.linear else torch.sigmoid(parameters)


class DiscretizedLogistic(Observation):
    """8-bit values: a logistic distribution, with one learned scale, summed over each value's cell.

    Its mean is the sigmoid of the parameter. The first and the last cell reach to infinity (Salimans et al. 2017,
    PixelCNN++, with one component). Its tails are heavier than a Gaussian's: an edge a pixel off costs less.
    """

    sample_space = "8-bit pixels"
    log_volume = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(-2.0 / SPEED))

    def draw(self, shape: tuple[int, ...]) -> Draw:
        return Draw("bits", (0,))  # none

    def observed(self, images: Tensor, noise: Tensor) -> Tensor:
        return images

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return discretized_logistic_log_prob(x, torch.sigmoid(parameters), SPEED * self.exponent).flatten(-3).sum(-1)

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


def binarised(images: Tensor, bits: Tensor) -> Tensor:
    """1 with the grey value in `images` as its probability, else 0.

    What torch.bernoulli does, from 16 random bits a pixel: in a quarter of its time, and less than 2^-16 off.
    """
    return bits.to(images.dtype).mul_(2**-16).add_(0.5).lt(images).to(images.dtype)


def shares_of_ones(examples: Batches, pseudocount: float = 1.0) -> Tensor:
    """The share of images in which each pixel is 1 if it is binarised at random: float64 (C, H, W), between 0 and 1.

    `pseudocount` black and as many white images are added, so that no share is 0 or 1.
    """
    total = torch.zeros(examples.shape, dtype=torch.float64, device=examples.device)
    for chunk in examples.chunks():
        total += chunk.sum(0, dtype=torch.float64)
    return (total + pseudocount) / (len(examples) + 2 * pseudocount)


def dequantised(images: Tensor, uniform: Tensor) -> Tensor:
    """(value + u) / 256 for the 8-bit values behind `images` in [0, 1], with u ~ U(0, 1)."""
    return (images * 255 + uniform) / 256


def observation(name: ObservationName) -> Observation:
    """The observation model of that name."""
    kinds: dict[str, type[Observation]] = {
        "bernoulli": Bernoulli,
        "gaussian": Gaussian,
        "discretized_logistic": DiscretizedLogistic,
    }
    return kinds[name]()


def binary_share(images: np.ndarray) -> float:
    """The share in [0, 1] of values that are nearly black or white among some of the 8-bit images (N, C, H, W)."""
    values = images[np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).astype(int)]
    return float(np.mean((values <= NEARLY) | (values >= 255 - NEARLY)))


def suited(share: float) -> ObservationName:
    """What `auto` is for images of that `binary_share`."""
    return "bernoulli" if share >= NEAR_BINARY else "gaussian"
