"""Convolutions that see only the pixels before one, row by row, for all pixels at once or one after the other.

Shapes: B rows of a batch, C channels, H, W image, T taps of a kernel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RasterConv(nn.Module):
    """A masked convolution (van den Oord et al. 2016) that sees the rows above and what is on the left.

    One after the other, what it sees of C channels is its history: the last values of its input, (B, C, `memory`).
    """

    mask: Tensor  # (rows, columns) of the kernel, 1 where it sees

    def __init__(self, inputs: int, outputs: int, reach: int, sees_itself: bool) -> None:
        """`reach` pixels to the left, the right, and above; `sees_itself` is whether it sees the pixel itself too."""
        super().__init__()
        self.reach, self.columns = reach, [*[2 * reach + 1] * reach, reach + sees_itself]  # columns seen, by row
        mask = (torch.arange(2 * reach + 1) < torch.tensor(self.columns)[:, None]).float()
        self.register_buffer("mask", mask, persistent=False)
        spread = float(inputs * mask.sum()) ** -0.5
        self.weights = nn.Parameter(spread * torch.randn(outputs, inputs, *mask.shape))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        reach = self.reach
        return functional.conv2d(functional.pad(x, (reach, reach, reach, 0)), self.weights * self.mask, self.bias)

    def memory(self, width: int) -> int:
        """How many of the last values are seen, in images of this width, without that of the pixel itself."""
        return self.reach * (width + 1)

    def inside(self, height: int, width: int) -> Tensor:
        """(H W, T): 1 where a tap lies within the image, else 0, for every pixel."""
        taps = torch.cat([torch.arange(seen) - self.reach for seen in self.columns])  # by how far to the right
        columns = torch.arange(width).repeat(height)[:, None] + taps
        return ((columns >= 0) & (columns < width)).float()

    def at(self, history: Tensor, x: Tensor, inside: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Of one pixel, with x (B, inputs) and a row of `inside` (T): (B, outputs), and the history with x."""
        known = torch.cat([history, x[..., None]], 2)  # (B, inputs, memory + 1), row by row
        seen = torch.cat([known[..., row * width :][..., :count] for row, count in enumerate(self.columns)], 2)
        weights = torch.cat([self.weights[:, :, row, :count] for row, count in enumerate(self.columns)], 2)
        y = (seen * inside).flatten(1) @ weights.flatten(1).T + self.bias
        return y, known[..., 1:].contiguous()
