"""One hidden layer: 784-400-20 at the defaults on 28x28 images."""

from math import prod

from torch import nn

from latentmill.networks.config import NetworkConfig, Shape


def encoder(config: NetworkConfig, image_shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs)."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(prod(image_shape), config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs)
    )


def decoder(config: NetworkConfig, latent: int, image_shape: Shape) -> nn.Sequential:
    """(B, latent) -> (B, C, H, W)."""
    return nn.Sequential(
        nn.Linear(latent, config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, prod(image_shape)),
        nn.Unflatten(1, image_shape),
    )
