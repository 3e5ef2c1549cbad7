"""Convolutions that halve the image twice on the way in, and double it twice on the way out.

The image is cropped in the end, so that any size of at least 4x4 fits.
"""

from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentmill.networks.config import NetworkConfig, Shape


def encoder(config: NetworkConfig, image_shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs)."""
    narrow, wide = config.channels, 2 * config.channels
    return nn.Sequential(
        nn.Conv2d(image_shape[0], narrow, 3, stride=2, padding=1),  # (B, c, H/2, W/2)
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 3, stride=2, padding=1),  #          (B, 2c, H/4, W/4)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(wide * prod(_quarter(image_shape)), outputs),
    )


def decoder(config: NetworkConfig, latent: int, image_shape: Shape) -> nn.Sequential:
    """(B, latent) -> (B, C, H, W)."""
    narrow, wide = config.channels, 2 * config.channels
    height, width = _quarter(image_shape)
    return nn.Sequential(
        nn.Linear(latent, wide * height * width),
        nn.ReLU(),
        nn.Unflatten(1, (wide, height, width)),
        nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1),  #           (B, c, H/2, W/2)
        nn.ReLU(),
        DoublingToFew(narrow, image_shape[0]),  #                              (B, C, H, W) or a little more
        Crop(image_shape[1], image_shape[2]),
    )


class DoublingToFew(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4 and stride 2, (B, I, H, W) -> (B, O, 2H, 2W), of few output channels.

    A CPU computes it as its equal, a convolution of half the kernel to four times the channels and a pixel-shuffle
    (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"), for which oneDNN takes less
    time, and onnxruntime more: so exported it is what it says.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(x, output_size)
        assert self.bias is not None
        halves = self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)  # (I, O, 2, 2', 2, 2'), k = 2t + t'
        weight = halves.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # (4 O, I, 2, 2)
        y = functional.conv2d(x, weight, self.bias.repeat_interleave(4), padding=1)  # (B, 4 O, H + 1, W + 1)
        return functional.pixel_shuffle(y, 2)[..., 1:-1, 1:-1]


class Crop(nn.Module):
    """The upper left `height` x `width` of each image."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        return images[..., : self.height, : self.width]


def _quarter(image_shape: Shape) -> tuple[int, int]:
    """Height and width after two convolutions of stride 2."""
    return ceil(image_shape[1] / 4), ceil(image_shape[2] / 4)
