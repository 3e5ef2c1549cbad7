"""Images reduced to tiles, so that a picture of many of them stays small."""

import numpy as np
from PIL import Image

from latentmill.data.preparation.fitting import LANCZOS

LARGEST = 256  # pixels of a side of a tile in the evaluation's pictures


def tile_size(height: int, width: int, largest: int = LARGEST) -> tuple[int, int]:
    """Height and width of the tile of an image of this size."""
    scale = min(1.0, largest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def tiles(images: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Images (N, C, H, W), uint8 or float32, reduced to sides of at most `largest`; as they are if none is longer."""
    height, width = tile_size(images.shape[2], images.shape[3], largest)
    if (height, width) == images.shape[2:]:
        return images
    channels = images.reshape(-1, *images.shape[2:])
    made = [np.asarray(Image.fromarray(channel).resize((width, height), LANCZOS)) for channel in channels]
    return np.stack(made).reshape(*images.shape[:2], height, width)
