"""Sets of images of which it is known whether they keep the rules, made from the user's own data."""

import numpy as np
from scipy.ndimage import gaussian_filter

from latentmill.evaluation.calibration import Control

NOISE = 0.05  # standard deviation of the noise on near copies, of a range of 1
BLUR = 1 / 28  # standard deviation of the blur, of the image's side
SMALLEST_BLUR = 0.5  # pixels


def for_rule_1(images: np.ndarray, groups: np.ndarray) -> list[Control]:
    """Do samples look drawn from the data? `images` (N, C, H, W) are the data, each in one of `groups` (N)."""
    pixels = images.reshape(len(images), -1)

    def real(rng: np.random.Generator, count: int) -> np.ndarray:
        return images[rng.choice(len(images), count, replace=False)]

    def dropped(rng: np.random.Generator, count: int) -> np.ndarray:
        sizes = {group: np.sum(groups == group) for group in np.unique(groups)}
        kept = np.flatnonzero(groups != rng.choice([group for group, size in sizes.items() if size < len(groups)]))
        return images[rng.choice(kept, count, replace=count > len(kept))]

    def independent(rng: np.random.Generator, count: int) -> np.ndarray:
        rows = rng.integers(len(pixels), size=(count, pixels.shape[1]))
        return pixels[rows, np.arange(pixels.shape[1])].reshape(count, *images.shape[1:])

    controls = [
        Control("real images", True, real),
        Control("blurred", False, lambda rng, count: blurred(real(rng, count))),
        Control("independent pixels", False, independent),
    ]
    return controls if len(np.unique(groups)) == 1 else [*controls, Control("one class dropped", False, dropped)]


def for_rule_2(held_out: np.ndarray, train: np.ndarray) -> list[Control]:
    """Are samples suitably different from the training data? All images are (N, C, H, W)."""
    kept = kept_by_rule_2("held-out images", held_out)
    new = kept[0].draw

    def copies(rng: np.random.Generator, count: int) -> np.ndarray:
        return train[rng.integers(len(train), size=count)]

    def near_copies(rng: np.random.Generator, count: int) -> np.ndarray:
        return noisy(copies(rng, count), rng)

    return [
        *kept,
        Control("training images", False, copies),
        Control("training images with noise", False, near_copies),
        Control("5 % training images", False, lambda rng, count: mixed(new(rng, count), copies(rng, count), 0.05)),
        Control("20 % with noise", False, lambda rng, count: mixed(new(rng, count), near_copies(rng, count), 0.2)),
    ]


def kept_by_rule_2(name: str, held_out: np.ndarray) -> list[Control]:
    """New images, and the same blurred: blur moves an image nearer to everything, and is no copying for that."""

    def new(rng: np.random.Generator, count: int) -> np.ndarray:
        return held_out[rng.choice(len(held_out), count, replace=False)]

    return [
        Control(name, True, new),
        Control(f"{name}, blurred", True, lambda rng, count: blurred(new(rng, count))),
    ]


def mixed(images: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """`images` with the first `share` of them, at least one, replaced by as many of `others`."""
    count = max(1, round(share * len(images)))
    return np.concatenate([others[:count], images[count:]])


def noisy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of standard deviation `NOISE`, cut to [0, 1]."""
    return np.clip(images + rng.normal(0, NOISE, images.shape), 0, 1).astype(np.float32)


def blurred(images: np.ndarray) -> np.ndarray:
    """About as a variational autoencoder blurs."""
    deviation = max(SMALLEST_BLUR, BLUR * max(images.shape[2:]))
    return np.asarray(gaussian_filter(images, (0, 0, deviation, deviation)))
