"""MADE, a masked autoencoder: every pixel given those before it, from one network of one hidden layer.

    log p(x) = sum_i log p(x_i | x_1 … x_{i-1})

A hidden unit sees only the pixels before one, and a pixel only the hidden units that do not see it (Germain et al.
2015). So the likelihood is exact, by one pass; a sample takes a step for each pixel, row by row. Where it shows
probabilities rather than pixels, each is that of a pixel given those drawn before it.

Adds: each pixel's probability given the pixels before it, from one masked network: an exact likelihood without a code.
Lacks: a code, any notion of neighbouring pixels, and speed: a sample takes a step for each pixel.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from latentmill.config import PositiveInt, Settings
from latentmill.contract import Batch, Generates, HasLikelihood, Model, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.sequential import scanned
from latentmill.observations import Bernoulli, shares_of_ones


class Made(Model, Generates, HasLikelihood):
    """A column of noise for each pixel, by comparison with the quantile of its probability."""

    chooses = True
    sees: Tensor  # (D, U), 1 where a hidden unit sees a pixel, one of the D

    class Config(Settings):
        hidden: PositiveInt = 500  # units, U

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width, self.observation = prod(shape), Bernoulli()
        self.criterion_draws = {"x": self.observation.draw(shape)}
        first_unseen = torch.linspace(1, self.noise_width - 1, config.hidden).long()  # (U)
        self.register_buffer("sees", (torch.arange(self.noise_width)[:, None] < first_unseen).float(), persistent=False)
        spread = config.hidden**-0.5
        self.inwards = nn.Parameter(spread * torch.randn(self.noise_width, config.hidden))
        self.outwards = nn.Parameter(torch.zeros(self.noise_width, config.hidden))
        self.hidden, self.pixels = nn.Parameter(torch.zeros(config.hidden)), nn.Parameter(torch.zeros(self.noise_width))

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """Begin with independent pixels."""
        self.pixels.copy_(torch.logit(shares_of_ones(examples).flatten()))

    def phases(self) -> Sequence[Phase]:
        return (Phase(Made.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": self.criterion(batch, noise)}

    def log_p_x(self, x: Tensor) -> Tensor:
        units = torch.relu(x.flatten(1) @ (self.inwards * self.sees) + self.hidden)
        logits = units @ (self.outwards * (1 - self.sees)).T + self.pixels
        return self.observation.log_prob(x, logits.unflatten(1, self.shape))

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        uniform = torch.special.ndtr(noise)

        def draw(units: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            for_pixel, inwards, outwards, bias = given
            p = torch.sigmoid(torch.relu(units) @ outwards + bias)
            return units + (for_pixel < p).to(p.dtype)[:, None] * inwards, p

        units = self.hidden.expand(noise.shape[0], -1).clone()  # before the ReLU, from the pixels drawn so far
        weights = self.inwards * self.sees, self.outwards * (1 - self.sees), self.pixels
        return scanned(draw, units, (uniform.T.contiguous(), *weights)).T.unflatten(1, self.shape)
