"""Residual blocks at each resolution, between strided convolutions on the way in and transposed ones on the way out.

Blocks are pre-activated (He et al. 2016), with SiLU and group normalisation, which looks at no other row of a batch.
The first convolution halves at once: blocks at full resolution cost the most and gain the least. Channels double at
each halving, up to four times the first. An image of any size is padded below and on the right, and cropped in the end.
"""

import itertools
from math import gcd, log2, prod, sqrt

from torch import Tensor, nn

from latentmill.networks.config import NetworkConfig, Shape
from latentmill.networks.conv import Crop, DoublingToFew

GROUPS = 4  # of channels that are normalised together, at most
WIDEST = 4  # times the channels of the first resolution
SMALLEST = 8  # pixels of a side, about, of the smallest resolution


def encoder(config: NetworkConfig, image_shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs), or (B, outputs, h, w) where codes are images."""
    below, right = (-side % _downsample(config, image_shape) for side in image_shape[1:])
    layers: list[nn.Module] = [nn.ZeroPad2d((0, right, 0, below))]
    channels, *widths = image_shape[0], *_widths(config, image_shape)
    for width in widths:
        layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), *_blocks(config, width)]  # (B, width, H/2, W/2)
        channels = width
    layers += [*_attention(config, channels), normalised(channels), nn.SiLU()]
    if config.code == "image":
        return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * prod(smallest(config, image_shape)), outputs))


def decoder(config: NetworkConfig, latent: int, image_shape: Shape) -> nn.Sequential:
    """(B, latent), or (B, latent, h, w) where codes are images -> (B, C, H, W)."""
    widths = [*reversed(_widths(config, image_shape)), image_shape[0]]
    height, width = smallest(config, image_shape)
    layers: list[nn.Module] = [
        *(
            [nn.Conv2d(latent, widths[0], 1)]
            if config.code == "image"
            else [_Spread(latent, (widths[0], height, width))]
        ),
        *_attention(config, widths[0]),
    ]
    for wide, narrow in itertools.pairwise(widths[:-1]):
        layers += [*_blocks(config, wide), normalised(wide), nn.SiLU()]
        layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)]  # (B, narrow, 2h, 2w)
    layers += [*_blocks(config, widths[-2]), normalised(widths[-2]), nn.SiLU(), DoublingToFew(*widths[-2:])]
    return nn.Sequential(*layers, Crop(image_shape[1], image_shape[2]))


def smallest(config: NetworkConfig, image_shape: Shape) -> tuple[int, int]:
    """Height and width of the smallest resolution."""
    height, width = (-(-side // _downsample(config, image_shape)) for side in image_shape[1:])
    return height, width


class Residual(nn.Module):
    """x + f(x), (B, c, h, w) -> (B, c, h, w), of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            normalised(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalised(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Attention(nn.Module):
    """x + g(softmax(q k / sqrt c) v): each place of (B, c, h, w) looks at all others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalised = normalised(channels)
        self.queries_keys_values = nn.Linear(channels, 3 * channels, bias=False)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        places = self.normalised(x).flatten(2).transpose(1, 2)  #           (B, hw, c)
        q, k, v = self.queries_keys_values(places).chunk(3, dim=2)
        weights = (q @ k.transpose(1, 2) / sqrt(q.shape[2])).softmax(2)  #  (B, hw, hw)
        return x + self.output(weights @ v).transpose(1, 2).unflatten(2, x.shape[2:])


class _Spread(nn.Sequential):
    """(B, d) -> (B, c, h, w)."""

    def __init__(self, latent: int, shape: Shape) -> None:
        super().__init__(nn.Linear(latent, prod(shape)), nn.Unflatten(1, shape))


def _downsample(config: NetworkConfig, image_shape: Shape) -> int:
    levels = round(log2(max(image_shape[1:]) / SMALLEST))
    return config.downsample or 2 ** min(4, max(1, levels))


def _widths(config: NetworkConfig, image_shape: Shape) -> list[int]:
    """Channels of each resolution, from the largest."""
    levels = int(log2(_downsample(config, image_shape)))
    return [config.channels * min(2**level, WIDEST) for level in range(levels)]


def _blocks(config: NetworkConfig, channels: int) -> list[nn.Module]:
    return [Residual(channels) for _ in range(config.depth)]


def _attention(config: NetworkConfig, channels: int) -> list[nn.Module]:
    return [Attention(channels)] if config.attention else []


def normalised(channels: int) -> nn.GroupNorm:
    """Normalises each row by itself, in groups of its channels."""
    return nn.GroupNorm(gcd(GROUPS, channels), channels)
