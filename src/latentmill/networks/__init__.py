"""Networks between images (B, C, H, W) and vectors: plain torch modules, a file for each kind."""

from torch import Tensor, nn

from latentmill.networks import conv, mlp
from latentmill.networks.config import NetworkConfig, Shape

__all__ = ["Float32", "NetworkConfig", "Shape", "decoder", "encoder"]

KINDS = {"mlp": mlp, "conv": conv}


class Float32(nn.Module):
    """What leaves a network, whatever it was computed in: sums over pixels need more than the 8 bits of bfloat16."""

    def forward(self, values: Tensor) -> Tensor:
        return values.float()


def encoder(config: NetworkConfig, image_shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs)."""
    return KINDS[config.network].encoder(config, image_shape, outputs).append(Float32())


def decoder(config: NetworkConfig, latent: int, image_shape: Shape) -> nn.Sequential:
    """(B, latent) codes -> pixel parameters (B, C, H, W), unbounded."""
    return KINDS[config.network].decoder(config, latent, image_shape).append(Float32())
