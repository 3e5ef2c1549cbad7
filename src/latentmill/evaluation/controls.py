"""Positive and negative controls, sets of images whose verdict is known, made from the user's own data.

A control draws indices from populations: all images of a kind, whose features are computed once, however many draws
are taken, and in chunks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latentmill.data.batches import as_float, chunk_size
from latentmill.evaluation.calibration import (
    LEAST_REPEATS_LOST,
    REPEATS_FAILING,
    REPEATS_LOST,
    REPEATS_MIXED,
    REPEATS_PASSING,
    REPEATS_SPOILT,
    Choice,
    Control,
    Parts,
)
from latentmill.evaluation.corruptions import STRONG, blends, blurred, independent_pixels, means, noisy, share_count
from latentmill.features.encoder import map_chunks


def without_one(mode: str) -> str:
    """The name of the control without one `mode`, such as a class; the modes of another space are another control."""
    return f"one {mode} dropped"


def is_dropped_mode(control: str) -> bool:
    """Whether it is the name of a control without one mode."""
    return control.startswith("one ") and control.endswith(" dropped")


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
        drawn = control.draw(without_replacement(rng), count, 0)
        return np.concatenate([self.populations[population].make(indices) for population, indices in drawn])


def rule_1_controls(images: np.ndarray, groups: np.ndarray, mode: str, seed: int) -> Controls:
    """Controls of Rule 1: samples look drawn from the data.

    `images` (N, C, H, W), uint8, are the data, each in one of `groups` (N), each of which is a `mode`.
    """
    controls = [
        _drawn("real images", True, "real", len(images), REPEATS_PASSING),
        _drawn("blurred", False, "blurred", len(images), REPEATS_FAILING),
        _drawn("independent pixels", False, "independent", len(images), REPEATS_FAILING),
    ]
    if len(np.unique(groups)) > 1:
        controls.append(_dropped_mode(groups, without_one(mode)))
    return Controls(
        {
            "real": real_images(images),
            "blurred": changed_images(images, blurred),
            "independent": independent_images(images, seed),
        },
        controls,
    )


def rule_2_controls(held_out: np.ndarray, groups: np.ndarray, train: np.ndarray, seed: int) -> Controls:
    """Controls of Rule 2: samples are suitably different from the training data.

    Images are uint8 (N, C, H, W), those held out in `groups` (N). Positive are new images, and what a bad model makes
    without copying: blur, noise, means, blends.
    """
    passing = sharp_and_blurred("held-out images", held_out)
    spoilt = spoilt_images(held_out, groups, seed)
    copies = {
        "copies": real_images(train),
        "noisy copies": made_images(train, seed, lambda some, rng: noisy(as_float(train[some]), rng)),
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


def sharp_and_blurred(name: str, images: np.ndarray) -> dict[str, Population]:
    """New images, and the same blurred: blur moves an image nearer to every other, although it is no copy."""
    return {name: real_images(images), f"{name}, blurred": changed_images(images, blurred)}


def spoilt_images(images: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Population]:
    """Bad images that are no copies, made from `images` (N, C, H, W), uint8, in `groups` (N)."""
    return {
        "strongly blurred": changed_images(images, lambda some: blurred(some, STRONG)),
        "held-out images with noise": made_images(images, seed, lambda some, rng: noisy(as_float(images[some]), rng)),
        "independent pixels": independent_images(images, seed),
        "mean images": made_images(images, seed, lambda some, rng: means(images, groups, rng, len(some))),
        "blends of two": made_images(images, seed, lambda some, rng: blends(images, some, rng)),
    }


def real_images(images: np.ndarray) -> Population:
    """Images uint8 (N, C, H, W) as they are."""
    return changed_images(images, lambda some: some)


def independent_images(images: np.ndarray, seed: int) -> Population:
    """As many, each pixel from another of the images uint8 (N, C, H, W)."""
    return made_images(images, seed, lambda some, rng: independent_pixels(images, rng, len(some)))


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


def _drawn(name: str, positive: bool, population: str, size: int, repeats: int) -> Control:
    return Control(name, positive, repeats, 1, lambda choose, count, turn: [(population, choose(size, count))])


def _mixed(name: str, new: str, size: int, copies: str, copied: int, share: float) -> Control:
    def draw(choose: Choice, count: int, turn: int) -> Parts:
        replaced = share_count(count, share)
        return [(copies, choose(copied, replaced)), (new, choose(size, count - replaced))]

    return Control(name, False, REPEATS_MIXED, 1, draw)


def _dropped_mode(groups: np.ndarray, name: str) -> Control:
    """One of the groups is missing, each in turn, because the absence of some is harder to detect."""
    names = np.unique(groups)

    def draw(choose: Choice, count: int, turn: int) -> Parts:
        kept = np.flatnonzero(groups != names[turn % len(names)])
        return [("real", kept[choose(len(kept), count)])]

    each = max(REPEATS_LOST, round(LEAST_REPEATS_LOST / len(names)))
    return Control(name, False, each * len(names), len(names), draw)
