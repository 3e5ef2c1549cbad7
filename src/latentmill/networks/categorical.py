"""Codes that are choices of one of several classes each: what a Gaussian posterior is to codes of numbers.

Shapes: B rows of a batch, K samples, D variables, C classes.
"""

from abc import abstractmethod
from math import log

import torch
from torch import Tensor

from latentmill.contract import HasBound, HasCodebook, HasPrior
from latentmill.draws import Draw, gumbel


class HasCategoricalPosterior(HasBound, HasPrior, HasCodebook):
    """q(z | x) is a product of categorical distributions, p(z) uniform. A code (B, D) holds the indices of classes."""

    @abstractmethod
    def log_q(self, x: Tensor) -> Tensor:
        """log q(z | x) of each class: (B, C, H, W) -> (B, D, C)."""

    @property
    def code_draw(self) -> Draw:
        return Draw("uniform", (*self.code_shape, self.entries))

    def weighed_codes(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_q = self.log_q(x).expand(noise.shape)  # (K, B, D, C)
        z = (log_q + gumbel(noise)).argmax(3)
        log_q_of_z = log_q.gather(3, z[..., None]).sum((2, 3))
        return z.float(), -log(self.entries) * z.shape[2] - log_q_of_z

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.log_q(images).argmax(2).float()

    def draw_code(self, noise: Tensor) -> Tensor:
        return (self.entries * torch.special.ndtr(noise)).floor().clamp(max=self.entries - 1)
