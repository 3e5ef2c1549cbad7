"""Observation models p(x | pixel parameters): what an image is taken to be a draw from.

Likelihoods are comparable only between models that share a sample space: binary pixels are one, real-valued
pixels another. Shapes: B batch, K samples, C, H, W image; parameters have the shape of the images.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from latentmill.densities import bernoulli_log_prob, gaussian_log_prob
from latentmill.draws import Generator, random_bits, uniform

ObservationName = Literal["bernoulli", "gaussian"]


class Observation(nn.Module, ABC):
    """p(x | parameters), independent over pixels."""

    sample_space: str  # what x is, as the report names it
    log_volume: float  # nats per pixel that turn a log-density of x into one of 8-bit pixel values

    @abstractmethod
    def observe(self, images: Tensor, generator: Generator) -> Tensor:
        """Draw the x that is modelled from grey values `images` (B, C, H, W) in [0, 1]."""

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

    def observe(self, images: Tensor, generator: Generator) -> Tensor:
        return binarised(images, generator)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return bernoulli_log_prob(x.flatten(-3), parameters.flatten(-3))

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


class Gaussian(Observation):
    """Real-valued pixels around a mean with one learned variance; 8-bit values are dequantised uniformly.

    x = (value + u) / 256 with u ~ U(0, 1) makes the density's integral over a value's cell a probability
    (Theis et al. 2016); one shared, learned variance is the sigma-VAE (Rybkin et al. 2021).
    """

    sample_space = "8-bit pixels dequantised uniformly, density on [0, 1]"
    log_volume = -5.545177444479562  # -log 256: the cell of one pixel value

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(-3.0))

    def observe(self, images: Tensor, generator: Generator) -> Tensor:
        return dequantised(images, generator)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        return gaussian_log_prob(x, parameters, self.log_variance).flatten(-3).sum(-1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(0, 1)


def binarised(images: Tensor, generator: Generator) -> Tensor:
    """1 with the grey value in `images` as its probability, else 0.

    What torch.bernoulli does, from 16 random bits a pixel: in a quarter of its time, and less than 2^-16 off.
    """
    return random_bits(images.shape, generator).to(images.dtype).mul_(2**-16).add_(0.5).lt(images).to(images.dtype)


def dequantised(images: Tensor, generator: Generator) -> Tensor:
    """(value + u) / 256 for the 8-bit values behind `images` in [0, 1], with u ~ U(0, 1)."""
    return (images * 255 + uniform(images.shape, generator)) / 256


def observation(name: ObservationName) -> Observation:
    """The observation model of that name."""
    return {"bernoulli": Bernoulli, "gaussian": Gaussian}[name]()
