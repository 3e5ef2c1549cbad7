"""Copies of training images as generators and people make them, to measure which of them a search would find.

Each kind changes images so little that the copy is still seen at a glance. Images are uint8 (N, C, H, W).
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import rotate

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import as_float
from latentmill.data.preparation.fitting import LANCZOS, MODES
from latentmill.evaluation.corruptions import NOISE, blurred, noisy

QUALITY = 50  # of a JPEG, of 100
BRIGHTER = 0.1  # at most, of each channel, of a range of 1
CROPPED = 0.05  # of each side's length, at either end
DEGREES = 5.0
Rng = np.random.Generator
UNCHANGED = "unchanged"


def _jpeg(images: np.ndarray, rng: Rng) -> np.ndarray:
    return np.stack([_through_jpeg(image) for image in images])


def _through_jpeg(image: np.ndarray) -> np.ndarray:
    """(C, H, W); alpha, which the format lacks, stays as it is."""
    colours = 1 if len(image) < 3 else 3
    file = io.BytesIO()
    _picture(image[:colours]).save(file, "JPEG", quality=QUALITY)
    return np.concatenate([_pixels(Image.open(file)), image[colours:]])


def _lit(images: np.ndarray, rng: Rng) -> np.ndarray:
    change = rng.uniform(-BRIGHTER, BRIGHTER, (len(images), images.shape[1], 1, 1)).astype(np.float32)
    return np.clip(as_float(images) + change, 0, 1)


def _moved(images: np.ndarray, rng: Rng) -> np.ndarray:
    """By a pixel to the right and down; the edge is repeated."""
    return np.pad(images, ((0, 0), (0, 0), (1, 0), (1, 0)), mode="edge")[..., :-1, :-1]


def _cropped(images: np.ndarray, rng: Rng) -> np.ndarray:
    height, width = images.shape[2:]
    box = (CROPPED * width, CROPPED * height, (1 - CROPPED) * width, (1 - CROPPED) * height)
    return np.stack([_pixels(_picture(image).resize((width, height), LANCZOS, box=box)) for image in images])


def _rotated(images: np.ndarray, rng: Rng) -> np.ndarray:
    return np.asarray(rotate(images, DEGREES, axes=(3, 2), reshape=False, order=1, mode="nearest"))


def _picture(image: np.ndarray) -> Image.Image:
    """(C, H, W), 1, 3 or 4 channels."""
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    return Image.fromarray(pixels, MODES[len(image)])


def _pixels(picture: Image.Image) -> np.ndarray:
    """What `_picture` was made from: (C, H, W)."""
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


KINDS: dict[str, Callable[[np.ndarray, Rng], np.ndarray]] = {
    UNCHANGED: lambda images, rng: images,
    f"saved as JPEG, quality {QUALITY}": _jpeg,
    f"with {100 * NOISE:.0f} % noise": lambda images, rng: noisy(as_float(images), rng),
    "blurred": lambda images, rng: blurred(as_float(images)),
    f"brighter or darker by up to {100 * BRIGHTER:.0f} %": _lit,
    "moved by a pixel": _moved,
    f"cropped by {100 * CROPPED:.0f} % at each edge": _cropped,
    f"rotated by {DEGREES:.0f} degrees": _rotated,
    "mirrored": lambda images, rng: np.ascontiguousarray(mirrored(images)),
}
