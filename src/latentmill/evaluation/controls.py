"""Sets of images of which it is known whether they keep the rules, made from the user's own data.

A control draws indices from populations: all images of a kind, which are made and looked at once, however many draws
are taken of them, and never all at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from latentmill.data.batches import as_float
from latentmill.evaluation.calibration import (
    REPEATS_FAILING,
    REPEATS_LOST,
    REPEATS_PASSING,
    REPEATS_SPOILT,
    Choice,
    Control,
    Parts,
)

NOISE = 0.05  # standard deviation of the noise on near copies, of a range of 1
BLUR = 1 / 28  # standard deviation of the blur, of the image's side
SMALLEST_BLUR = 0.5  # pixels
STRONG = 3  # times that
MEANS_OF = 8  # images of a group
LOST = "one mode dropped"


@dataclass(frozen=True)
class Population:
    """Images of one kind."""

    count: int
    make: Callable[[np.ndarray], np.ndarray]  # indices (n) below `count` -> float32 (n, C, H, W) in [0, 1]


@dataclass(frozen=True)
class Controls:
    """All of one rule, and the populations that they draw from."""

    populations: dict[str, Population]
    controls: list[Control]

    def images(self, name: str, rng: np.random.Generator, count: int) -> np.ndarray:
        """One draw of the control called `name`, as images float32 (count, C, H, W)."""
        (control,) = (each for each in self.controls if each.name == name)
        drawn = control.draw(without_replacement(rng), count, 0)
        return np.concatenate([self.populations[population].make(indices) for population, indices in drawn])


def for_rule_1(images: np.ndarray, groups: np.ndarray, seed: int) -> Controls:
    """Do samples look drawn from the data? `images` (N, C, H, W), uint8, are the data, each in one of `groups` (N)."""
    controls = [
        _drawn("real images", True, "real", len(images), REPEATS_PASSING),
        _drawn("blurred", False, "blurred", len(images), REPEATS_FAILING),
        _drawn("independent pixels", False, "independent", len(images), REPEATS_FAILING),
    ]
    if len(np.unique(groups)) > 1:
        controls.append(_lost_mode(groups))
    return Controls(
        {
            "real": _real(images),
            "blurred": _changed(images, blurred),
            "independent": Population(
                len(images), lambda some: independent_pixels(images, _rng(seed, some), len(some))
            ),
        },
        controls,
    )


def for_rule_2(held_out: np.ndarray, groups: np.ndarray, train: np.ndarray, seed: int) -> Controls:
    """Are samples suitably different from the training data?

    Images are uint8 (N, C, H, W), those held out in `groups` (N). Besides new images, all that a bad model makes
    without copying passes: blur, noise, means, blends.
    """
    passing = unspoilt("held-out images", held_out)
    spoilt = spoilt_images(held_out, groups, seed)
    copies = {
        "copies": _real(train),
        "noisy copies": Population(len(train), lambda some: noisy(as_float(train[some]), _rng(seed, some))),
    }
    new, count = "held-out images", len(held_out)
    controls = [
        *(_drawn(name, True, name, each.count, REPEATS_PASSING) for name, each in passing.items()),
        *(_drawn(name, True, name, each.count, REPEATS_SPOILT) for name, each in spoilt.items()),
        _drawn("training images", False, "copies", len(train), REPEATS_FAILING),
        _drawn("training images with noise", False, "noisy copies", len(train), REPEATS_FAILING),
        _mixed("5 % training images", new, count, "copies", len(train), 0.05),
        _mixed("20 % with noise", new, count, "noisy copies", len(train), 0.2),
    ]
    return Controls(passing | spoilt | copies, controls)


def unspoilt(name: str, images: np.ndarray) -> dict[str, Population]:
    """New images, and the same blurred: blur moves an image nearer to everything, and is no copying for that."""
    return {name: _real(images), f"{name}, blurred": _changed(images, blurred)}


def spoilt_images(images: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Population]:
    """What is bad and no copy, made from `images` (N, C, H, W), uint8, in `groups` (N)."""
    count = len(images)
    return {
        "strongly blurred": _changed(images, lambda some: blurred(some, STRONG)),
        "held-out images with noise": Population(count, lambda some: noisy(as_float(images[some]), _rng(seed, some))),
        "independent pixels": Population(count, lambda some: independent_pixels(images, _rng(seed, some), len(some))),
        "mean images": Population(count, lambda some: means(images, groups, _rng(seed, some), len(some))),
        "blends of two": Population(count, lambda some: blends(images, some, _rng(seed, some))),
    }


def mixed(images: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """`images` with the first `share` of them, at least one, replaced by as many of `others`."""
    count = _share(len(images), share)
    return np.concatenate([others[:count], images[count:]])


def noisy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of standard deviation `NOISE`, cut to [0, 1]."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return np.clip(images + np.float32(NOISE) * noise, 0, 1)


def blurred(images: np.ndarray, strength: float = 1) -> np.ndarray:
    """About as a variational autoencoder blurs, or so many times as much."""
    deviation = strength * max(SMALLEST_BLUR, BLUR * max(images.shape[2:]))
    return np.asarray(gaussian_filter(images, (0, 0, deviation, deviation)))


def independent_pixels(images: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Each pixel of an image of its own, of uint8 (N, C, H, W): float32 (count, C, H, W)."""
    pixels = images.reshape(len(images), -1)
    rows = rng.integers(len(pixels), size=(count, pixels.shape[1]))
    return as_float(pixels[rows, np.arange(pixels.shape[1])].reshape(count, *images.shape[1:]))


def means(images: np.ndarray, groups: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Each the mean of `MEANS_OF` images of one of `groups` (N), of uint8 (N, C, H, W): float32 (count, C, H, W)."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found = np.empty((count, *images.shape[1:]), np.float32)
    for row, of in enumerate(rng.integers(len(members), size=count)):
        found[row] = images[rng.choice(members[of], MEANS_OF)].mean(0, dtype=np.float32) / 255
    return found


def blends(images: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each of `chosen`, indices (n), and another, of uint8 (N, C, H, W): float32 (n, C, H, W)."""
    others = (chosen + rng.integers(1, max(2, len(images)), size=len(chosen))) % len(images)
    return (as_float(images[chosen]) + as_float(images[others])) / 2


def _real(images: np.ndarray) -> Population:
    return _changed(images, lambda some: some)


def _changed(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Population:
    return Population(len(images), lambda some: change(as_float(images[some])))


def _rng(seed: int, indices: np.ndarray) -> np.random.Generator:
    """Images are made in chunks: each has its own draws."""
    return np.random.default_rng([seed, int(indices[0])])


def _share(count: int, share: float) -> int:
    return max(1, round(share * count))


def without_replacement(rng: np.random.Generator) -> Choice:
    """Each index once, while there are as many."""
    return lambda below, count: rng.choice(below, count, replace=count > below)


def with_replacement(rng: np.random.Generator) -> Choice:
    """Any number of indices."""
    return lambda below, count: rng.integers(below, size=count)


def _drawn(name: str, passes: bool, population: str, size: int, repeats: int) -> Control:
    return Control(name, passes, repeats, 1, lambda choose, count, turn: [(population, choose(size, count))])


def _mixed(name: str, new: str, size: int, copies: str, copied: int, share: float) -> Control:
    def draw(choose: Choice, count: int, turn: int) -> Parts:
        replaced = _share(count, share)
        return [(copies, choose(copied, replaced)), (new, choose(size, count - replaced))]

    return Control(name, False, REPEATS_FAILING, 1, draw)


def _lost_mode(groups: np.ndarray) -> Control:
    """One of the groups is missing, each in its turn: some are harder to miss than others."""
    names = np.unique(groups)

    def draw(choose: Choice, count: int, turn: int) -> Parts:
        kept = np.flatnonzero(groups != names[turn % len(names)])
        return [("real", kept[choose(len(kept), count)])]

    return Control(LOST, False, REPEATS_LOST * len(names), len(names), draw)
