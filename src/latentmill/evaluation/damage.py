"""Scores on a scale that people understand: the damage to real images that scores the same.

"C2ST accuracy 0.74: like real images blurred by 0.6 px." A curve has the scores of real images that are damaged more
and more; between two levels it is a straight line.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.calibration import MARGIN
from latentmill.evaluation.verdict import INTERVAL, Estimate

BLUR, NOISE, BLENDED, LOST, COPIED = (
    "blur",
    "share replaced by independent pixels",
    "share replaced by blends of two",
    "share of a class lost",
    "share of copies",
)
WORDS = {  # of each kind, what was done to the images that score the same
    BLUR: "blurred by {}",
    NOISE: "of which {} are replaced by independent pixels",
    BLENDED: "of which {} are replaced by blends of two",
    LOST: "without {} of a class or cluster",
    COPIED: "with {} copies",
}
IMAGES = {1: "real images", 2: "new images"}  # of each rule, those that are damaged
UNDAMAGED = {1: "undamaged real images", 2: "new images without copies"}
SUMMED_UP = {1: (BLUR, LOST), 2: (COPIED,)}  # of each rule, the kinds that say most


@dataclass(frozen=True)
class DamageCurve:
    """The values of a metric in one space, at each level of a kind of damage."""

    rule: int
    kind: str
    metric: str
    space: str
    size: int  # images of a draw
    levels: tuple[float, ...]  # from no damage on: pixels of deviation of a blur, or a share
    values: tuple[float, ...]  # means, made monotone, as damage is
    error: float  # standard error of a mean

    def damage(self, value: float) -> float:
        """The level that has this value: the first for better ones, the last for worse."""
        values = np.array(self.values)
        sign = 1 if values[-1] >= values[0] else -1
        rising, firsts = np.unique(sign * values, return_index=True)
        return float(np.interp(sign * value, rising, np.array(self.levels)[firsts]))

    @property
    def is_informative(self) -> bool:
        """Whether the greatest damage surely scores otherwise than none."""
        return abs(self.values[-1] - self.values[0]) > MARGIN * np.sqrt(2) * self.error


@dataclass(frozen=True)
class EquivalentDamage:
    """The damage to real images that scores the same as samples, with an interval of about 95 %."""

    curve: DamageCurve
    value: float  # of the samples
    damage: float
    low: float
    high: float

    @staticmethod
    def read_off(curve: DamageCurve, estimate: Estimate) -> "EquivalentDamage":
        """Where the curve has the value of an estimate; the errors of both widen the interval."""
        error = INTERVAL * float(np.hypot(estimate.standard_error, curve.error))
        low, high = sorted(curve.damage(estimate.value + side * error) for side in (-1, 1))
        return EquivalentDamage(curve, estimate.value, curve.damage(estimate.value), low, high)

    @property
    def words(self) -> str:
        """What was done to the images that score the same: "blurred by 0.6 px (0.4 to 0.8)"."""
        factor, unit = (1, "px") if self.curve.kind == BLUR else (100, "%")
        found, low, high = (f"{float(f'{factor * each:.2g}'):g}" for each in (self.damage, self.low, self.high))
        amount = f"{found} {unit}" if low == high else f"{low} to {high} {unit}"
        if self.damage >= self.curve.levels[-1]:
            amount = f"{found} {unit} or more" if self.curve.kind == BLUR else f"{found} {unit}"
        elif self.damage and low != high:
            amount = f"{found} {unit} ({low} to {high})"
        return WORDS[self.curve.kind].format(amount)


def equivalent_damages(estimates: Iterable[Estimate], curves: Sequence[DamageCurve]) -> list[EquivalentDamage]:
    """Of each estimate, by the curves of its metric in its space, if any, of draws as large."""
    return [
        EquivalentDamage.read_off(curve, each)
        for each in estimates
        for curve in curves
        if (curve.rule, curve.metric, curve.space, curve.size)
        == (each.calibration.rule, each.calibration.metric, each.calibration.space, each.calibration.size)
    ]


def phrase(rule: int, found: Iterable[EquivalentDamage]) -> str:
    """What the scores under a rule are equivalent to, as far as that is sure; empty where it was not measured."""
    by_damage = sorted(found, key=lambda each: each.damage)
    worst = {each.curve.kind: each for each in by_damage if each.curve.kind in SUMMED_UP[rule]}
    sure = [worst[kind].words for kind in SUMMED_UP[rule] if kind in worst and worst[kind].low > 0]
    if sure:
        return f"{IMAGES[rule]} {', '.join(sure)}"
    return UNDAMAGED[rule] if worst else ""
