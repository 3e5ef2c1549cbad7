"""Scores on a scale that people understand: the damage to real images that scores the same.

"C2ST accuracy 0.74: like real images blurred by 0.6 pixels." A kind of damage has several levels. At each, real images
that no model has seen are damaged and scored like samples; between two levels the curve of scores is a straight line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.isotonic import isotonic_regression

from latentmill.evaluation.calibration import Choice, Control, Parts
from latentmill.evaluation.control_draws import ViewedControls
from latentmill.evaluation.controls import Controls, Population, changed_images, independent_images, real_images
from latentmill.evaluation.judge import Judgement
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.spaces import FidelitySpace
from latentmill.evaluation.verdict import INTERVAL, Draws, Estimate

REPEATS = 4  # draws of a level
REAL = "real"
BLUR, NOISE, LOST = "blur", "share replaced by independent pixels", "share of a class lost"
LEVELS = {  # of each kind of damage, from none on; blur is the standard deviation in pixels
    BLUR: (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0),
    NOISE: (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
    LOST: (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
}
METRICS = {"C2ST accuracy": (BLUR, NOISE), "rarest group": (LOST,)}  # the kinds of damage that each tells of


@dataclass(frozen=True)
class DamageCurve:
    """The values of a metric of rule 1 in one space, at each level of a kind of damage."""

    kind: str
    metric: str
    space: str
    levels: tuple[float, ...]
    values: tuple[float, ...]  # means, made monotone, as damage is
    error: float  # standard error of a mean

    def damage(self, value: float) -> float:
        """The level that has this value: the first for better ones, the last for worse."""
        values = np.array(self.values)
        sign = 1 if values[-1] >= values[0] else -1
        rising, firsts = np.unique(sign * values, return_index=True)
        return float(np.interp(sign * value, rising, np.array(self.levels)[firsts]))


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


def equivalent_damages(
    judgement: Judgement,
    spaces: Sequence[FidelitySpace],
    images: np.ndarray,
    groups: Sequence[np.ndarray],
    draws: Draws,
    seed: int,
) -> list[EquivalentDamage]:
    """Of each metric of rule 1 that tells of some kind of damage.

    `images`, uint8 (N, C, H, W), are real and new, and in `groups` (N) of each of the `spaces` of rule 1.
    """
    found = []
    for space, each in zip(spaces, groups, strict=True):
        for curve in damage_curves(space, images, each, draws, seed):
            for estimate in judgement.estimates[1]:
                if (estimate.calibration.metric, estimate.calibration.space) == (curve.metric, curve.space):
                    found.append(EquivalentDamage.read_off(curve, estimate))
    return found


def damage_curves(
    space: FidelitySpace, images: np.ndarray, groups: np.ndarray, draws: Draws, seed: int
) -> Iterator[DamageCurve]:
    """All curves in one space, from real images uint8 (N, C, H, W) in `groups` (N)."""
    populations = {REAL: real_images(images), NOISE: independent_images(images, seed)}
    populations |= {_blurred(level): _blur(images, level) for level in LEVELS[BLUR][1:]}
    for metric, kinds in METRICS.items():
        levels = {kind: _levels(kind, len(images), groups) for kind in kinds}
        controls = [control for each in levels.values() for control in each]
        needed = populations if BLUR in kinds else {REAL: populations[REAL]}
        viewed = ViewedControls(1, space, Controls(needed, controls))
        values = viewed.values(draws, {metric: RULES[1][metric]}, np.random.default_rng([seed, 3]))
        for kind, each in levels.items():
            if metric in values:  # else there are too few images
                yield _curve(kind, metric, space.name, [values[metric][control] for control in each])


def _curve(kind: str, metric: str, space: str, values: list[list[float]]) -> DamageCurve:
    """From the values of the draws at each level."""
    means = np.array([np.mean(each) for each in values])
    monotone = isotonic_regression(means, increasing=bool(means[-1] >= means[0]))
    spread = float(np.sqrt(np.mean([np.var(each, ddof=1) for each in values])))
    error = spread / float(np.sqrt(min(map(len, values))))
    return DamageCurve(kind, metric, space, LEVELS[kind], tuple(monotone.tolist()), error)


def _blurred(level: float) -> str:
    return f"blurred by {level:g} pixels" if level else REAL


def _blur(images: np.ndarray, level: float) -> Population:
    return changed_images(images, lambda some: np.asarray(gaussian_filter(some, (0, 0, level, level))))


def _levels(kind: str, count: int, groups: np.ndarray) -> list[Control]:
    """The control of each level of a kind of damage to `count` images."""
    kinds = len(np.unique(groups)) if kind == LOST else 1
    draw = {BLUR: partial(_draw_blurred, count), NOISE: partial(_draw_mixed, count), LOST: partial(_draw_lost, groups)}
    repeats = max(REPEATS, kinds)
    return [Control(f"{kind} {level:g}", False, repeats, kinds, partial(draw[kind], level)) for level in LEVELS[kind]]


def _draw_blurred(size: int, level: float, choose: Choice, count: int, turn: int) -> Parts:
    return [(_blurred(level), choose(size, count))]


def _draw_mixed(size: int, share: float, choose: Choice, count: int, turn: int) -> Parts:
    replaced = round(share * count)
    return [(NOISE, choose(size, replaced)), (REAL, choose(size, count - replaced))]


def _draw_lost(groups: np.ndarray, share: float, choose: Choice, count: int, turn: int) -> Parts:
    """Each of the groups in turn keeps only 1 - `share` of its images."""
    names = np.unique(groups)
    inside = groups == names[turn % len(names)]
    others, inside = np.flatnonzero(~inside), np.flatnonzero(inside)
    kept = inside[: round((1 - share) * len(inside))]
    left = np.concatenate([others, kept])
    return [(REAL, left[choose(len(left), count)])]
