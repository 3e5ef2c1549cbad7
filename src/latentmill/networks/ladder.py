"""The layers of codes of a ladder variational autoencoder, in which each has a prior given the layer above.

Each prior is N(mu, s), the image alone says N(m, v), and q is their product. All is in units of the prior: the code is
epsilon = (z - mu) / sqrt(s), its prior N(0, 1), and q the product of that with N((m - mu) / sqrt(s), v / s). Shapes: B
rows of a batch, U units, d numbers of all layers together, the uppermost first.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from latentmill.densities import reparameterised
from latentmill.networks import Float32

Drawn = tuple[Tensor, Tensor, Tensor]  # epsilon, and its mean and log-variance given the layers above


class Layers(nn.Module):
    """Deterministic on the way up, with draws on the way down."""

    def __init__(self, widths: Sequence[int], units: int) -> None:
        """`widths` are the numbers of the layers, the uppermost first."""
        super().__init__()
        self.widths = list(widths)
        self.up = nn.ModuleList(_layers(units, units) for _ in self.widths[1:])
        self.seen = nn.ModuleList(_layers(units, 2 * width) for width in self.widths)
        self.expected = nn.ModuleList(
            nn.Sequential(nn.Linear(above, units), _layers(units, 2 * below)) for above, below in pairwise(self.widths)
        )

    def forward(self, features: Tensor, noise: Tensor) -> Drawn:
        """Of q given features of images (B, U), from standard normal noise (…, B, d): each (…, B, d)."""
        found, mu, log_s = list[Drawn](), noise.new_zeros(()), noise.new_zeros(())
        below = [*self.expected, None]
        for (m, log_v), drawn, expected in zip(self._seen(features), noise.split(self.widths, -1), below, strict=True):
            mean, log_variance = times_standard_normal((m - mu) * torch.exp(-0.5 * log_s), log_v - log_s)
            epsilon = reparameterised(mean, log_variance, drawn)
            found.append((epsilon, mean.expand_as(drawn), log_variance.expand_as(drawn)))
            if expected:
                mu, log_s = expected(reparameterised(mu, log_s, epsilon)).chunk(2, -1)
        epsilon, mean, log_variance = (torch.cat(each, -1) for each in zip(*found, strict=True))
        return epsilon, mean, log_variance

    def lowest(self, epsilon: Tensor) -> Tensor:
        """z of the layer from which images are decoded: (B, d) -> (B, width)."""
        z, *below = epsilon.split(self.widths, 1)
        for expected, each in zip(self.expected, below, strict=True):
            mu, log_s = expected(z).chunk(2, 1)
            z = reparameterised(mu, log_s, each)
        return z

    def _seen(self, features: Tensor) -> list[tuple[Tensor, ...]]:
        """m and log v of each layer."""
        found = [features]
        for up in self.up:
            found.append(up(found[-1]))
        return [seen(each).chunk(2, 1) for seen, each in zip(self.seen, reversed(found), strict=True)]


def times_standard_normal(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the product of a Gaussian with N(0, 1): 1 / variances and mean / variance add up."""
    return mean * torch.sigmoid(-log_variance), logsigmoid(log_variance)


def _layers(units: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(units), nn.SiLU(), nn.Linear(units, outputs), Float32())
