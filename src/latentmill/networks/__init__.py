"""Encoders and decoders: plain torch modules between images (B, C, H, W) and vectors.

`mlp` is one hidden layer, 784-400-20 at the defaults on 28x28 images. `conv` halves the image twice on the way
in and doubles it twice on the way out, then crops, so any size of at least 4x4 fits.
"""

from math import ceil, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentmill.config import PositiveInt, Settings

ImageShape = tuple[int, int, int]  # C, H, W


class NetworkConfig(Settings):
    """The size and kind of both networks of a model."""

    network: Literal["mlp", "conv"] = "mlp"
    hidden: PositiveInt = 400  # mlp: units of the hidden layer
    channels: PositiveInt = 16  # conv: channels after the first convolution; twice that after


def encoder(config: NetworkConfig, image_shape: ImageShape, outputs: int) -> nn.Module:
    """(B, C, H, W) -> (B, outputs)."""
    if config.network == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(image_shape), config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, outputs),
            Float32(),
        )
    narrow, wide = config.channels, 2 * config.channels
    return nn.Sequential(
        nn.Conv2d(image_shape[0], narrow, 3, stride=2, padding=1),  # (B, c, H/2, W/2)
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 3, stride=2, padding=1),  #          (B, 2c, H/4, W/4)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(wide * prod(_quarter(image_shape)), outputs),
        Float32(),
    )


def decoder(config: NetworkConfig, latent: int, image_shape: ImageShape) -> nn.Module:
    """(B, latent) codes -> pixel parameters (B, C, H, W), unbounded."""
    if config.network == "mlp":
        return nn.Sequential(
            nn.Linear(latent, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, prod(image_shape)),
            nn.Unflatten(1, image_shape),
            Float32(),
        )
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
        Float32(),
    )


class Float32(nn.Module):
    """What leaves a network, whatever it was computed in: sums over pixels need more than the 8 bits of bfloat16."""

    def forward(self, values: Tensor) -> Tensor:
        return values.float()


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


def _quarter(image_shape: ImageShape) -> tuple[int, int]:
    """Height and width after two convolutions of stride 2."""
    return ceil(image_shape[1] / 4), ceil(image_shape[2] / 4)
