"""PixelCNN: every pixel given those above it and on its left, by masked convolutions.

    log p(x) = sum_i log p(x_i | x_1 … x_{i-1})

The likelihood is exact, by one pass (van den Oord et al. 2016); layers are residual, as a pixel is like its neighbours.
A sample takes a step for each pixel, row by row, and computes each value of a layer once. It shows probabilities rather
than pixels, each that of a pixel given those drawn before it. The channels of a pixel do not see one another.

Adds: masked convolutions for each pixel given those before it, because neighbouring pixels belong together.
Lacks: a code, a plan for the image as a whole, and speed: a sample takes a step for each pixel.
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
from latentmill.networks.raster import RasterConv, drawn_pixels, stacked
from latentmill.observations import Bernoulli, shares_of_ones

FIRST, REACH = 3, 1  # pixels that the first layer sees in each direction; and the others


class PixelCnn(Model, Generates, HasLikelihood):
    """A column of noise for each pixel and channel, by comparison with the quantile of its probability."""

    chooses = True

    class Config(Settings):
        channels: PositiveInt = 32  # of each layer
        depth: PositiveInt = 6  # layers after the first

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width, self.observation = prod(shape), Bernoulli()
        self.criterion_draws = {"x": self.observation.draw(shape)}
        self.first = RasterConv(shape[0], config.channels, FIRST, sees_itself=False)
        self.layers = nn.ModuleList(
            RasterConv(config.channels, config.channels, REACH, sees_itself=True) for _ in range(config.depth)
        )
        self.last = nn.Linear(config.channels, shape[0])
        self.places = nn.Parameter(torch.zeros(shape))  # the bias of each pixel

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """Begin with independent pixels."""
        self.places.copy_(torch.logit(shares_of_ones(examples)))
        self.last.weight.zero_()
        self.last.bias.zero_()

    def phases(self) -> Sequence[Phase]:
        return (Phase(PixelCnn.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": self.criterion(batch, noise)}

    def log_p_x(self, x: Tensor) -> Tensor:
        h = stacked([self.first, *self.layers], x)
        logits = self.last(torch.relu(h).movedim(1, -1)).movedim(-1, 1) + self.places
        return self.observation.log_prob(x, logits)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        channels, height, width = self.shape

        def draw(h: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            for_pixel, bias = given  # (B, C), (C)
            p = torch.sigmoid(self.last(torch.relu(h)) + bias)
            return (for_pixel < p).to(p.dtype), p

        uniform = torch.special.ndtr(noise).unflatten(1, (channels, -1)).movedim(2, 0).contiguous()  # (H W, B, C)
        bias = self.places.flatten(1).T.contiguous()  # (H W, C)
        p = drawn_pixels([self.first, *self.layers], draw, (uniform, bias), height, width)  # (H W, B, C)
        return p.movedim(0, 2).unflatten(2, (height, width))
