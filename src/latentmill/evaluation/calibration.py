"""What a metric's values mean on this data: its values on controls, sets of images whose verdict is known.

No published metric of either rule can be trusted everywhere. So each is first computed on positive controls, which
should pass the rule, and negative controls, which should fail it, all made from the user's own data. It is informative
only where it separates them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

# Draws of each control; more of real images, because these must not be failed.
REPEATS_PASSING, REPEATS_SPOILT, REPEATS_FAILING = 24, 8, 8
REPEATS_MIXED = 16  # of few copies among many images, which are harder to separate
REPEATS_LOST, LEAST_REPEATS_LOST = 2, 24  # at least, of each group that is dropped and, about, of all groups together
# Standard deviations that must lie between a control and the threshold: with a deviation known from 24 draws, Student's
# t requires 3.5 for an error of 0.1 %, which each of some twenty metrics may make.
MARGIN = 3.5

Parts = list[tuple[str, np.ndarray]]  # populations, and the indices (n) that are taken of each
Choice = Callable[[int, int], np.ndarray]  # (below, count) -> indices (count)
Draw = Callable[[Choice, int, int], Parts]


@dataclass(frozen=True)
class Control:
    """Images whose verdict is known: it is positive if they should pass the rule, negative if they should fail it."""

    name: str
    positive: bool
    repeats: int
    kinds: int  # that the draws take in turns, such as the dropped class; the one hardest to separate counts
    draw: Draw  # (how indices are chosen, count, number of the draw) -> the origin of `count` images


@dataclass(frozen=True)
class ControlValues:
    """A metric's values on one control."""

    name: str
    positive: bool
    mean: float
    deviation: float  # of one more draw from the world from this mean
    around_own_mean: float | None = None  # deviation of draws from the world around their own mean; None: the same

    @property
    def draw_deviation(self) -> float:
        """The deviation of draws from the world, around a mean that is known."""
        return self.deviation if self.around_own_mean is None else self.around_own_mean

    @staticmethod
    def from_draws(
        control: Control,
        values: list[float],
        higher_is_better: bool,
        factors: tuple[float, float] = (1.0, 1.0),
        least: tuple[float, float] = (0.0, 0.0),
    ) -> "ControlValues":
        """From the values of draws, in their order.

        Draws from a pool deviate less than draws from the world deviate from the pool's mean, and from their own, by
        these two `factors`. The two deviations are at least `least`.
        """
        by_kind = [values[kind :: control.kinds] for kind in range(control.kinds)]
        means = [float(np.mean(each)) for each in by_kind]
        within = np.concatenate([np.subtract(each, mean) for each, mean in zip(by_kind, means, strict=True)])
        deviation = float(np.sqrt(np.square(within).sum() / max(1, len(values) - control.kinds)))
        hardest = max(means) if higher_is_better else min(means)
        deviations = (max(deviation * factor, low) for factor, low in zip(factors, least, strict=True))
        return ControlValues(control.name, control.positive, hardest, *deviations)


def factors_without_replacement(share: float) -> tuple[float, float]:
    """The factors of `from_draws`, for draws that each take that `share` of a pool, below 1, each image once.

    They vary 1 - share as much as draws from the world, and the pool's own mean is off by as much as the mean of
    1 / share draws: for a mean, variances of (1 - share) and (1 + share) times that of one draw.
    """
    return sqrt((1 + share) / (1 - share)), sqrt(1 / (1 - share))


def factors_with_replacement(share: float) -> tuple[float, float]:
    """The factors of `from_draws`, for draws with replacement: only the pool's own mean is off.

    `share` is the size of a draw over that of the pool; it may exceed 1.
    """
    return sqrt(1 + share), 1.0


@dataclass(frozen=True)
class Calibration:
    """The values of one metric in one feature space on the controls of its rule."""

    rule: int
    metric: str
    space: str
    higher_is_better: bool
    controls: tuple[ControlValues, ...]
    size: int = 0  # images of a draw
    max_size: int | None = None  # images of a draw that the metric can use; None: all
    only_excludes: frozenset[str] = frozenset()  # negative controls that it may exclude, but not detect

    @property
    def name(self) -> str:
        return f"{self.metric} ({self.space})"

    @property
    def positive(self) -> list[ControlValues]:
        return [each for each in self.controls if each.positive]

    @property
    def negative(self) -> list[ControlValues]:
        return [each for each in self.controls if not each.positive]

    def badness(self, value: float) -> float:
        """The value with the sign by which more is worse."""
        return -value if self.higher_is_better else value

    def separated(self) -> dict[str, float]:
        """The negative controls that it separates from all positive ones: name -> threshold, half-way between both."""
        worst = max(self.badness(each.mean) + MARGIN * each.deviation for each in self.positive)
        best = {each.name: self.badness(each.mean) - MARGIN * each.deviation for each in self.negative}
        return {name: self.badness((worst + low) / 2) for name, low in best.items() if low > worst}

    def detected(self) -> dict[str, float]:
        """Those of `separated` that it also detects: the others it can only exclude."""
        return {name: threshold for name, threshold in self.separated().items() if name not in self.only_excludes}

    @property
    def threshold(self) -> float | None:
        """The value from which the rule fails; None for an uninformative metric, which detects no control."""
        return min(self.detected().values(), key=self.badness, default=None)

    def images_factor(self, control: str) -> float | None:
        """With about how many times the images it would separate a control: deviations fall as their square root.

        None where no number would do, because the control looks no worse than a positive one, or the metric uses no
        more images than it has.
        """
        (negative,) = (each for each in self.controls if each.name == control)
        gaps = [self.badness(negative.mean) - self.badness(each.mean) for each in self.positive]
        if min(gaps) <= 0:
            return None
        deviations = (each.deviation + negative.deviation for each in self.positive)
        margins = (MARGIN * deviation / gap for deviation, gap in zip(deviations, gaps, strict=True))
        factor = max(margins) ** 2
        return None if self.max_size is not None and factor * self.size > self.max_size else factor

    def confirmed(
        self,
        values: Mapping[str, tuple[str, float]],
        factor: float,
        least: float = 0.0,
        steady: Collection[str] = (),
    ) -> "Calibration":
        """With more positive controls: by name the known control that each corresponds to, and its value.

        Their deviations are `factor` times those of the known controls, and at least `least`. The value of bad images
        may depend on a single training image, the nearest to all of them. Therefore the deviation is also at least half
        of how far the value moved, except for controls that are `steady`.
        """
        known = {each.name: each for each in self.controls}
        more = []
        for name, (control, value) in values.items():
            before = known[control]
            moved = 0.0 if name in steady else abs(value - before.mean) / 2
            more.append(ControlValues(name, True, value, max(factor * before.deviation, least, moved)))
        return replace(self, controls=(*self.controls, *more))
