"""What networks are made from."""

from typing import Literal

from latentmill.config import PositiveInt, Settings

Shape = tuple[int, ...]  # of an image (C, H, W), or of a code


class NetworkConfig(Settings):
    """The size and kind of both networks of a model."""

    network: Literal["mlp", "conv", "residual"] = "mlp"  # the kind of both
    hidden: PositiveInt = 400  # mlp: units of the hidden layer
    channels: PositiveInt = 16  # conv, residual: channels after the first convolution; twice that after the second
    depth: PositiveInt = 1  # residual: blocks at each resolution
    # residual: the image's side divided by that of the smallest resolution; null: so that this is about 8
    downsample: Literal[2, 4, 8, 16] | None = None
    attention: bool = False  # residual: whether places of the smallest resolution attend to one another
    code: Literal["vector", "image"] = "vector"  # residual: an image of `latent` channels at the smallest resolution
