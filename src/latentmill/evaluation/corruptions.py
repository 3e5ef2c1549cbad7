"""Corruptions of images, as bad models produce them: noise, blur, means, blends, and copies among others."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from latentmill.data.batches import as_float

NOISE = 0.05  # standard deviation of the noise on near copies, of a range of 1
BLUR = 1 / 28  # standard deviation of the blur, of the image's side
SMALLEST_BLUR = 0.5  # pixels
STRONG = 3  # times that
STRICT = 0.75  # times that, the blur that fails: docs/evaluation.md has who passes
SHIFT, ZOOM, TURN = 1 / 28, 0.1, np.deg2rad(5)  # at most, of images that are moved: of the side, of the size, an angle
MEANS_OF = 8  # images of a group


def mixed(images: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """`images` with the first `share` of them, at least one, replaced by as many of `others`."""
    count = share_count(len(images), share)
    return np.concatenate([others[:count], images[count:]])


def noisy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of standard deviation `NOISE`, clipped to [0, 1]."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return np.clip(images + np.float32(NOISE) * noise, 0, 1)


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each float32 (N, C, H, W) shifted, zoomed and rotated at random, by up to `SHIFT`, `ZOOM` and `TURN`."""
    count = len(images)
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (count, 2))  # of [-1, 1], which is the side
    zoom, turn = (rng.uniform(-most, most, count) for most in (ZOOM, TURN))
    cos, sin = (1 + zoom) * np.cos(turn), (1 + zoom) * np.sin(turn)
    maps = np.stack([np.stack([cos, -sin, shift[:, 0]], 1), np.stack([sin, cos, shift[:, 1]], 1)], 1)
    places = F.affine_grid(torch.from_numpy(maps).float(), list(images.shape), align_corners=False)
    found = F.grid_sample(torch.from_numpy(images), places, padding_mode="border", align_corners=False)
    return np.asarray(found.numpy())


def blurred(images: np.ndarray, strength: float = 1) -> np.ndarray:
    """Blurred about as by a variational autoencoder, or `strength` times as much."""
    return blurred_by_pixels(images, strength * usual_blur(images))


def blurred_by_pixels(images: np.ndarray, pixels: float) -> np.ndarray:
    """Blurred by a Gaussian with a standard deviation of so many pixels."""
    return np.asarray(gaussian_filter(images, (0, 0, pixels, pixels)))


def usual_blur(images: np.ndarray) -> float:
    """The standard deviation in pixels of the blur of a variational autoencoder, for images (N, C, H, W)."""
    return max(SMALLEST_BLUR, BLUR * max(images.shape[2:]))


def usual_limit(images: np.ndarray) -> float:
    """The blur in pixels from which on samples fail, unless it is set."""
    return STRICT * usual_blur(images)


def independent_pixels(images: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Each pixel from another random image of uint8 (N, C, H, W): float32 (count, C, H, W)."""
    pixels = images.reshape(len(images), -1)
    rows = rng.integers(len(pixels), size=(count, pixels.shape[1]))
    return as_float(pixels[rows, np.arange(pixels.shape[1])].reshape(count, *images.shape[1:]))


def means(images: np.ndarray, groups: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Each the mean of `MEANS_OF` images of one of `groups` (N), of uint8 (N, C, H, W): float32 (count, C, H, W)."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found = np.empty((count, *images.shape[1:]), np.float32)
    for row, group in enumerate(rng.integers(len(members), size=count)):
        found[row] = images[rng.choice(members[group], MEANS_OF)].mean(0, dtype=np.float32) / 255
    return found


def blends(images: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each of the images `chosen`, indices (n), and another one: float32 (n, C, H, W) from uint8."""
    others = (chosen + rng.integers(1, max(2, len(images)), size=len(chosen))) % len(images)
    return (as_float(images[chosen]) + as_float(images[others])) / 2


def share_count(count: int, share: float) -> int:
    """That share of `count` images, at least one."""
    return max(1, round(share * count))
