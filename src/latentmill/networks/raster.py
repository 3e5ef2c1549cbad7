"""Convolutions that see only the pixels before one, row by row, for all pixels at once or one after the other.

In a stack of them the first alone does not see the pixel itself, and the others, of which there is one at least, are
residual and alike. Shapes: B rows of a batch, C channels, H, W image, T taps of a kernel.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentmill.networks.sequential import scanned

Tensors = tuple[Tensor, ...]
DrawPixel = Callable[[Tensor, Tensors], tuple[Tensor, Tensor]]


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


def stacked(layers: Sequence[RasterConv], x: Tensor) -> Tensor:
    """What a stack makes of all pixels: (B, inputs, H, W) -> (B, outputs, H, W)."""
    h = layers[0](x)
    for layer in layers[1:]:
        h = h + layer(torch.relu(h))
    return h


def drawn_pixels(layers: Sequence[RasterConv], draw: DrawPixel, given: Tensors, height: int, width: int) -> Tensor:
    """The outputs of `draw` for one pixel after the other, (H W, B, …).

    It is given what the stack makes of the pixels before, (B, outputs), and an element of each of the sequences `given`
    (H W, …), of which the first is (H W, B, …). It returns the pixel too, (B, inputs), which those after it see.
    """

    def step(histories: Tensors, elements: Tensors) -> tuple[Tensors, Tensor]:
        inside_first, inside, *others = elements
        h, first = layers[0].at(histories[0], torch.zeros_like(histories[0][..., 0]), inside_first, width)
        seen = []
        for layer, history in zip(layers[1:], histories[1:], strict=True):
            more, known = layer.at(history, torch.relu(h), inside, width)
            h = h + more
            seen.append(known)
        pixel, output = draw(h, tuple(others))
        return (torch.cat([first[..., :-1], pixel[..., None]], 2), *seen), output

    sizes = [(given[0].shape[1], layer.weights.shape[1], layer.memory(width)) for layer in layers]
    inside = [layer.inside(height, width).to(given[0].device) for layer in layers[:2]]
    return scanned(step, tuple(given[0].new_zeros(size) for size in sizes), (*inside, *given))
