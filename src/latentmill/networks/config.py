"""What networks are made from."""

from typing import Annotated, Literal

from latentmill.config import OnlyWith, PositiveInt, Settings

Shape = tuple[int, ...]  # of an image (C, H, W), or of a code
OF_MLP = OnlyWith("network", ("mlp",), "mlp")
OF_CONVOLUTIONS = OnlyWith("network", ("conv", "residual"), "conv or residual")
OF_RESIDUAL = OnlyWith("network", ("residual",), "residual")


class NetworkConfig(Settings):
    """The size and kind of both networks of a model."""

    network: Literal["mlp", "conv", "residual"] = "mlp"  # the kind of both
    hidden: Annotated[PositiveInt, OF_MLP] = 400  # mlp: units of the hidden layer
    # conv, residual: channels after the first convolution; twice that after the second
    channels: Annotated[PositiveInt, OF_CONVOLUTIONS] = 16
    depth: Annotated[PositiveInt, OF_RESIDUAL] = 1  # residual: blocks at each resolution
    # residual: the image's side divided by that of the smallest resolution; null: so that this is about 8
    downsample: Annotated[Literal[2, 4, 8, 16] | None, OF_RESIDUAL] = None
    # residual: whether places of the smallest resolution attend to one another
    attention: Annotated[bool, OF_RESIDUAL] = False
    code: Literal["vector", "image"] = "vector"  # residual: an image of `latent` channels at the smallest resolution
