"""A flow that can be inverted exactly: affine coupling layers (Dinh et al. 2017).

    y = m z + (1 - m) (z exp(s(m z)) + t(m z)),  log |dy/dz| = sum (1 - m) s(m z)

m keeps half of the dimensions, which say how the others are scaled and shifted; the next layer keeps the others.
Shapes: rows (…, d).
"""

import torch
from torch import Tensor, nn

LARGEST = 2.0  # of |s|: scales by at most exp(2) a layer keep both directions exact in float32


class Coupling(nn.Module):
    """Begins as the identity."""

    kept: Tensor  # (d), 1 for the dimensions that stay

    def __init__(self, width: int, hidden: int, is_odd: bool) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * width)
        )
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("kept", ((torch.arange(width) + is_odd) % 2).float())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (…, d) -> y (…, d) and log |dy/dz| (…)."""
        log_scale, shift = self._scale_and_shift(z)
        return z * log_scale.exp() + shift, log_scale.sum(-1)

    def inverse(self, y: Tensor) -> Tensor:
        """(…, d) -> (…, d)."""
        log_scale, shift = self._scale_and_shift(y)
        return (y - shift) * torch.exp(-log_scale)

    def _scale_and_shift(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Of all dimensions: 0 for those that stay, by which alone they are chosen."""
        log_scale, shift = self.network(z * self.kept).chunk(2, -1)
        return LARGEST * torch.tanh(log_scale / LARGEST) * (1 - self.kept), shift * (1 - self.kept)
