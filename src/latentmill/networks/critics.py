"""Critics, which learn to tell what is real from what is made: parts of models that are games of two.

Shapes: B rows; a score is a logit, above 0 for what looks real.
"""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from latentmill.networks import Float32, NetworkConfig, Shape, encoder

BETAS = (0.5, 0.99)  # of Adam: momentum of a game of two is best low


class CodeCritic(nn.Module):
    """The logit of the probability that a code is of one kind and not of the other: (B, …) -> (B)."""

    def __init__(self, widths: Sequence[int]) -> None:
        """`widths` are that of a code, then that of each hidden layer."""
        super().__init__()
        hidden = [(nn.Linear(*pair), nn.LeakyReLU()) for pair in pairwise(widths)]
        self.layers = nn.Sequential(*chain(*hidden), nn.Linear(widths[-1], 1), Float32())

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(z.flatten(1))
        return logits[:, 0]


def image_critic(config: NetworkConfig, shape: Shape) -> tuple[nn.Module, nn.Module]:
    """From images (B, C, H, W) to the last hidden layer, and from there to their scores, as `mean_score` takes them."""
    network = encoder(config, shape, 1)
    *body, _, _ = network  # the last ones: a layer of weights, and Float32
    return nn.Sequential(*body, Float32()), network[-2:]


def mean_score(scores: Tensor) -> Tensor:
    """Of a critic of images: (B, 1), or (B, 1, h, w) of places, where codes are images: a patch critic -> (B)."""
    return scores.flatten(1).mean(1)


def slope_penalty(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """R1, 1/2 |grad D(x)|^2 of each row's own score (Mescheder et al. 2018): (B, C, H, W) -> (B)."""
    slopes = torch.func.grad(lambda x: score(x).sum())(images)
    return 0.5 * slopes.square().flatten(1).sum(1)
