"""What networks are made from."""

from typing import Literal

from latentmill.config import PositiveInt, Settings

Shape = tuple[int, ...]  # of an image (C, H, W), or of a code


class NetworkConfig(Settings):
    """The size and kind of both networks of a model."""

    network: Literal["mlp", "conv"] = "mlp"
    hidden: PositiveInt = 400  # mlp: units of the hidden layer
    channels: PositiveInt = 16  # conv: channels after the first convolution; twice that after
