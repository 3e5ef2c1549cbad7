"""What a measure's value means on this data: its values on controls whose answer is known.

No published measure of either rule can be trusted everywhere. So each is first shown sets of images that keep the
rule and sets that break it, all made from the user's own data, and has a say only where it told them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

# Draws of each control; more of those that keep the rule, for the honest must not be blamed.
REPEATS_KEPT, REPEATS_BROKEN = 24, 8
# Standard deviations that must lie between a control and the threshold: with a deviation known from 24 draws, Student's
# t asks for 3.5 for an error of 0.1 %, which each of some twenty measures may make.
MARGIN = 3.5

Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Control:
    """Images of which it is known whether they keep the rule."""

    name: str
    keeps: bool
    draw: Draw  # (generator, count) -> images, float32 (count, C, H, W) in [0, 1]

    @property
    def repeats(self) -> int:
        return REPEATS_KEPT if self.keeps else REPEATS_BROKEN


@dataclass(frozen=True)
class Seen:
    """A measure's values on one control."""

    control: str
    keeps: bool
    mean: float
    deviation: float  # between one more draw, from the world, and the mean

    @staticmethod
    def of(control: Control, values: list[float], share: float, least: float = 0.0, stratified: bool = False) -> "Seen":
        """Each draw took that `share` of a pool of images, below 1; the deviation is at least `least`.

        Draws from a pool vary 1 - share as much as draws from the world, and the pool's own mean is off by as much as
        the mean of 1 / share draws: for a mean, variances of (1 - share) and (1 + share) times that of one draw. Where
        the pool is `stratified` by what is measured, its own mean is that of the world.
        """
        of_pool = 0 if stratified else share
        deviation = float(np.std(values, ddof=1)) * sqrt((1 + of_pool) / (1 - share))
        return Seen(control.name, control.keeps, float(np.mean(values)), max(deviation, least))


@dataclass(frozen=True)
class Calibration:
    """What one measure in one feature space made of the controls of its rule."""

    rule: int
    measure: str
    space: str
    higher_is_better: bool
    seen: tuple[Seen, ...]

    @property
    def name(self) -> str:
        return f"{self.measure} ({self.space})"

    def badness(self, value: float) -> float:
        """The value, turned so that more is worse."""
        return -value if self.higher_is_better else value

    def told(self) -> dict[str, float]:
        """The controls that break the rule and that it tells from all that keep it: name -> threshold, half-way."""
        kept = max(self.badness(each.mean) + MARGIN * each.deviation for each in self.seen if each.keeps)
        broken = [each for each in self.seen if not each.keeps]
        lowest = {each.control: self.badness(each.mean) - MARGIN * each.deviation for each in broken}
        return {name: self.badness((kept + low) / 2) for name, low in lowest.items() if low > kept}

    def confirmed(self, values: dict[str, float], factor: float) -> "Calibration":
        """With further sets of images that keep the rule: by name the value of each, in the order of those that do so.

        Their deviations are `factor` times those of the ones known.
        """
        kept = [each for each in self.seen if each.keeps]
        more = [
            Seen(name, True, value, factor * before.deviation)
            for (name, value), before in zip(values.items(), kept, strict=True)
        ]
        return replace(self, seen=(*self.seen, *more))

    @property
    def threshold(self) -> float | None:
        """The value from which it says that the rule is broken; None where it tells no control, so has no say."""
        return min(self.told().values(), key=self.badness, default=None)
