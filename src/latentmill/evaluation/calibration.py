"""What a measure's value means on this data: its values on controls whose answer is known.

No published measure of either rule can be trusted everywhere. So each is first shown sets of images that keep the
rule and sets that break it, all made from the user's own data, and has a say only where it told them apart.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

# Draws of each control; more of real images, for the honest must not be blamed.
REPEATS_PASSING, REPEATS_SPOILT, REPEATS_FAILING = 24, 8, 8
REPEATS_MIXED = 16  # of few copies among many images, which are told by less
REPEATS_LOST, REPEATS_LOST_IN_ALL = 2, 24  # of each group that is lost, and of all, about: both at least
# Standard deviations that must lie between a control and the threshold: with a deviation known from 24 draws, Student's
# t asks for 3.5 for an error of 0.1 %, which each of some twenty measures may make.
MARGIN = 3.5

Parts = list[tuple[str, np.ndarray]]  # populations, and the indices (n) that are taken of each
Choice = Callable[[int, int], np.ndarray]  # (below, count) -> indices (count)
Draw = Callable[[Choice, int, int], Parts]


@dataclass(frozen=True)
class Control:
    """Images of which it is known whether they keep the rule."""

    name: str
    keeps: bool
    repeats: int
    kinds: int  # that it takes turns at; what counts of them is the one hardest to tell
    draw: Draw  # (how indices are chosen, count, which of the repeats) -> what `count` images are taken of


@dataclass(frozen=True)
class Seen:
    """A measure's values on one control."""

    control: str
    keeps: bool
    mean: float
    deviation: float  # between one more draw, from the world, and the mean
    of_a_draw: float | None = None  # of draws from the world alone, whose mean is known; None: the same

    @property
    def within(self) -> float:
        """The deviation of draws from the world, around a mean that is known."""
        return self.deviation if self.of_a_draw is None else self.of_a_draw

    @staticmethod
    def of(
        control: Control,
        values: list[float],
        higher_is_better: bool,
        factors: tuple[float, float] = (1.0, 1.0),
        least: tuple[float, float] = (0.0, 0.0),
    ) -> "Seen":
        """From the values of draws, in their order.

        Draws from a pool deviate less than draws from the world do from the pool's mean, and from their own: by these
        `factors`. The deviations are at least `least`.
        """
        of_kinds = [values[kind :: control.kinds] for kind in range(control.kinds)]
        means = [float(np.mean(each)) for each in of_kinds]
        within = np.concatenate([np.subtract(each, mean) for each, mean in zip(of_kinds, means, strict=True)])
        deviation = float(np.sqrt(np.square(within).sum() / max(1, len(values) - control.kinds)))
        hardest = max(means) if higher_is_better else min(means)
        of_world, of_a_draw = (max(deviation * factor, low) for factor, low in zip(factors, least, strict=True))
        return Seen(control.name, control.keeps, hardest, of_world, of_a_draw)


def factors_without_replacement(share: float) -> tuple[float, float]:
    """Of `Seen.of`, for draws that each take that `share` of a pool, below 1, each image once.

    They vary 1 - share as much as draws from the world, and the pool's own mean is off by as much as the mean of
    1 / share draws: for a mean, variances of (1 - share) and (1 + share) times that of one draw.
    """
    return sqrt((1 + share) / (1 - share)), sqrt(1 / (1 - share))


def factors_with_replacement(share: float) -> tuple[float, float]:
    """Of `Seen.of`, for draws of that `share` of a pool, or many times as many: only the pool's own mean is off."""
    return sqrt(1 + share), 1.0


@dataclass(frozen=True)
class Calibration:
    """What one measure in one feature space made of the controls of its rule."""

    rule: int
    measure: str
    space: str
    higher_is_better: bool
    seen: tuple[Seen, ...]
    size: int = 0  # images of a draw
    most: int | None = None  # images of a draw that the measure can use; None: all
    only_excludes: frozenset[str] = frozenset()  # controls that it may exclude, but not find

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

    def needed(self, control: str) -> float | None:
        """With about how many times the images the control would be told: deviations fall as the square root of these.

        None where no number would do, because it looks no worse than something that keeps the rule, or the measure
        uses no more images than it has.
        """
        (broken,) = (each for each in self.seen if each.control == control)
        kept = [each for each in self.seen if each.keeps]
        gaps = [self.badness(broken.mean) - self.badness(each.mean) for each in kept]
        if min(gaps) <= 0:
            return None
        margins = (MARGIN * (each.deviation + broken.deviation) / gap for each, gap in zip(kept, gaps, strict=True))
        times = max(margins) ** 2
        return None if self.most is not None and times * self.size > self.most else times

    def confirmed(
        self,
        values: Mapping[str, tuple[str, float]],
        factor: float,
        least: float = 0.0,
        steady: Collection[str] = (),
    ) -> "Calibration":
        """With further sets of images that keep the rule: by name the control that each is like, and its value.

        Their deviations are `factor` times those of the controls, and at least `least`. What bad images come to may
        hang on a single training image, that nearest to all of them. So but for those that are `steady`, they are also
        at least half of how far the value moved.
        """
        known = {each.control: each for each in self.seen}
        more = []
        for name, (control, value) in values.items():
            before = known[control]
            moved = 0.0 if name in steady else abs(value - before.mean) / 2
            more.append(Seen(name, True, value, max(factor * before.deviation, least, moved)))
        return replace(self, seen=(*self.seen, *more))

    def finds(self) -> dict[str, float]:
        """Those of `told` that it says are there: of the others it can only say that they are not."""
        return {name: threshold for name, threshold in self.told().items() if name not in self.only_excludes}

    @property
    def threshold(self) -> float | None:
        """The value from which it says that the rule is broken; None where it finds no control, so has no say."""
        return min(self.finds().values(), key=self.badness, default=None)
