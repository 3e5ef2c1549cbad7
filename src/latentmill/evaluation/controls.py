"""Positive and negative controls, sets of images whose verdict is known, made from the user's own data.

A control draws indices from populations: all images of a kind, whose features are computed once, however many draws
are taken, and in chunks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latentmill.config import LimitsConfig
from latentmill.data.batches import as_float, chunk_size
from latentmill.evaluation.calibration import REPEATS_PASSING, REPEATS_SPOILT, Choice, Control
from latentmill.evaluation.corruptions import (
    STRONG,
    blends,
    blurred,
    blurred_by_pixels,
    independent_pixels,
    means,
    noisy,
    usual_blur,
    usual_limit,
)
from latentmill.evaluation.graded_controls import (
    BLENDS,
    BLURRED,
    COPIES,
    HELD_OUT,
    INDEPENDENT,
    REAL,
    blurred_by,
    drawn,
    dropped_mode,
    mixed,
)
from latentmill.features.encoder import map_chunks

LIMITS = LimitsConfig()
NOISY_COPIES = f"{COPIES} with noise"


@dataclass(frozen=True)
class Population:
    """Images of one kind."""

    count: int
    size: int  # of a chunk
    make: Callable[[np.ndarray], np.ndarray]  # indices (n) below `count` -> float32 (n, C, H, W) in [0, 1]

    def rows(self, features: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The `features` of all images, float32 (count, D), computed in chunks."""
        return map_chunks(lambda some: features(self.make(some)), self.count, self.size)


@dataclass(frozen=True)
class Controls:
    """The controls of one rule, and the populations that they draw from."""

    populations: dict[str, Population]
    controls: list[Control]

    def images(self, name: str, rng: np.random.Generator, count: int) -> np.ndarray:
        """One draw of the control called `name`, as images float32 (count, C, H, W)."""
        (control,) = (each for each in self.controls if each.name == name)
        parts = control.draw(without_replacement(rng), count, 0)
        return np.concatenate([self.populations[population].make(indices) for population, indices in parts])


def rule_1_controls(
    images: np.ndarray, groups: np.ndarray, mode: str, seed: int, limits: LimitsConfig = LIMITS
) -> Controls:
    """Controls of Rule 1: samples look drawn from the data.

    `images` (N, C, H, W), uint8, are the data, each in one of `groups` (N), each of which is a `mode`. A limit that is
    stricter than the whole damage adds a control and leaves the others as they are, so no threshold becomes laxer.
    """
    usual, limit = usual_blur(images), limits.blur or usual_limit(images)
    populations = {REAL: real_images(images)}
    populations |= {BLURRED: blurred_images(images, usual)} if limit <= usual else {}
    populations[INDEPENDENT] = independent_images(images, seed)
    whole = [drawn(name, len(images)) for name in populations if name != REAL]
    strict = [drawn(blurred_by(limit), len(images))] if limit != usual else []
    populations |= {each.name: blurred_images(images, limit) for each in strict}
    real, independent = ((name, len(images)) for name in (REAL, INDEPENDENT))
    strict += [mixed(share, independent, real) for share in (limits.independent,) if share < 1]
    if len(np.unique(groups)) > 1:
        whole.append(dropped_mode(groups, mode))
        strict += [dropped_mode(groups, mode, share) for share in (limits.lost,) if share < 1]
    return Controls(populations, [drawn(*real, positive=True, repeats=REPEATS_PASSING), *whole, *strict])


def rule_2_controls(
    held_out: np.ndarray, groups: np.ndarray, train: np.ndarray, seed: int, limits: LimitsConfig = LIMITS
) -> Controls:
    """Controls of Rule 2: samples are suitably different from the training data.

    Images are uint8 (N, C, H, W), those held out in `groups` (N). Positive are new images, and what a bad model makes
    without copying: blur, noise, means, blends.
    """
    passing = sharp_and_blurred(HELD_OUT, held_out)
    spoilt = spoilt_images(held_out, groups, seed)
    copies = {
        COPIES: real_images(train),
        NOISY_COPIES: made_images(train, seed, lambda some, rng: noisy(as_float(train[some]), rng)),
    }
    new, copied, noisy_copies = (HELD_OUT, len(held_out)), (COPIES, len(train)), (NOISY_COPIES, len(train))
    controls = [
        *(drawn(name, each.count, True, REPEATS_PASSING) for name, each in passing.items()),
        *(drawn(name, each.count, True, REPEATS_SPOILT) for name, each in spoilt.items()),
        drawn(*copied),
        drawn(*noisy_copies),
        mixed(limits.copies, copied, new),
        mixed(limits.noisy_copies, noisy_copies, new),
    ]
    return Controls(passing | spoilt | copies, controls)


def sharp_and_blurred(name: str, images: np.ndarray) -> dict[str, Population]:
    """New images, and the same blurred: blur moves an image nearer to every other, although it is no copy."""
    return {name: real_images(images), f"{name}, blurred": changed_images(images, blurred)}


def spoilt_images(images: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Population]:
    """Bad images that are no copies, made from `images` (N, C, H, W), uint8, in `groups` (N)."""
    return {
        "strongly blurred": changed_images(images, lambda some: blurred(some, STRONG)),
        "held-out images with noise": made_images(images, seed, lambda some, rng: noisy(as_float(images[some]), rng)),
        INDEPENDENT: independent_images(images, seed),
        "mean images": made_images(images, seed, lambda some, rng: means(images, groups, rng, len(some))),
        BLENDS: blended_images(images, seed),
    }


def blurred_images(images: np.ndarray, pixels: float) -> Population:
    """Images uint8 (N, C, H, W), blurred by so many pixels."""
    return changed_images(images, lambda some: blurred_by_pixels(some, pixels))


def real_images(images: np.ndarray) -> Population:
    """Images uint8 (N, C, H, W) as they are."""
    return changed_images(images, lambda some: some)


def independent_images(images: np.ndarray, seed: int) -> Population:
    """As many, each pixel from another of the images uint8 (N, C, H, W)."""
    return made_images(images, seed, lambda some, rng: independent_pixels(images, rng, len(some)))


def blended_images(images: np.ndarray, seed: int) -> Population:
    """As many, each the mean of two of the images uint8 (N, C, H, W)."""
    return made_images(images, seed, lambda some, rng: blends(images, some, rng))


def changed_images(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Population:
    """Images uint8 (N, C, H, W), changed as float32."""
    return Population(len(images), chunk_size(images.shape[1:]), lambda some: change(as_float(images[some])))


def made_images(
    images: np.ndarray, seed: int, make: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> Population:
    """From indices and a random generator: each chunk has its own, so that its images are always the same."""

    def make_chunk(some: np.ndarray) -> np.ndarray:
        return make(some, np.random.default_rng([seed, int(some[0])]))

    return Population(len(images), chunk_size(images.shape[1:]), make_chunk)


def without_replacement(rng: np.random.Generator) -> Choice:
    """Each index at most once, unless more are requested than there are."""
    return lambda below, count: rng.choice(below, count, replace=count > below)


def with_replacement(rng: np.random.Generator) -> Choice:
    """Any number of indices."""
    return lambda below, count: rng.integers(below, size=count)
