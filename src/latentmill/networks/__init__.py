"""Networks between images (B, C, H, W) and codes (B, …): plain torch modules, a file for each kind."""

from torch import Tensor, nn

from latentmill.errors import InputError
from latentmill.networks import conv, mlp, residual
from latentmill.networks.config import NetworkConfig, Shape

__all__ = ["Float32", "NetworkConfig", "Shape", "code_shape", "decoder", "encoder"]

KINDS = {"mlp": mlp, "conv": conv, "residual": residual}


class Float32(nn.Module):
    """What leaves a network, whatever it was computed in: sums over pixels need more than the 8 bits of bfloat16."""

    def forward(self, values: Tensor) -> Tensor:
        return values.float()


def encoder(config: NetworkConfig, image_shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs), or (B, outputs, h, w) where codes are images."""
    return KINDS[config.network].encoder(config, image_shape, outputs).append(Float32())


def decoder(config: NetworkConfig, latent: int, image_shape: Shape) -> nn.Sequential:
    """Codes (B, latent) or (B, latent, h, w) -> pixel parameters (B, C, H, W), unbounded."""
    return KINDS[config.network].decoder(config, latent, image_shape).append(Float32())


def code_shape(config: NetworkConfig, latent: int, image_shape: Shape) -> Shape:
    """(latent), or (latent, h, w) where codes are images.

    Raises:
        InputError: the network has no codes that are images.
    """
    if config.code == "vector":
        return (latent,)
    if config.network != "residual":
        raise InputError(f"code: image needs network: residual, but got network: {config.network}")
    return latent, *residual.smallest(config, image_shape)
