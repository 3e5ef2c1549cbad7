"""Curves of damage, measured on controls without a verdict: real images that no model has seen, damaged by degrees."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sklearn.isotonic import isotonic_regression

from latentmill.evaluation.calibration import Control
from latentmill.evaluation.control_draws import Values, ViewedControls
from latentmill.evaluation.controls import blended_images, blurred_images
from latentmill.evaluation.corruptions import usual_blur
from latentmill.evaluation.damage import BLENDED, BLUR, COPIED, LOST, NOISE, DamageCurve
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
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.verdict import Draws

REPEATS = 3  # draws of a level
DAMAGED = 2_000  # images, at most, that are damaged only for these curves
METRICS: dict[int, dict[str, tuple[str, ...]]] = {  # of each rule, and the kinds of damage that they measure
    1: {"C2ST accuracy": (BLUR, NOISE, BLENDED), "rarest group": (LOST,)},
    2: {"near copies": (COPIED,)},
}
BLURS = (0.25, 0.375, 0.5, 0.75, 1.0, 2.0)  # times the usual one
SHARES = (0.1, 0.2, 0.5, 1.0)
LOST_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
COPIED_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Levels = dict[float, Control]  # by the damage: pixels of deviation, or a share; from none on


def fidelity_curves(
    viewed: ViewedControls, known: Values, images: np.ndarray, groups: np.ndarray, mode: str, draws: Draws, seed: int
) -> list[DamageCurve]:
    """Those of rule 1 in the space of its `viewed` controls, whose values are `known`.

    The images uint8 (N, C, H, W), in `groups` (N) that are each a `mode`, are those of the controls.
    """
    some = images[np.random.default_rng(seed).permutation(len(images))[:DAMAGED]]
    usual, real = usual_blur(images), (REAL, len(images))
    blurs = {factor * usual: BLURRED if factor == 1 else blurred_by(factor * usual) for factor in BLURS}
    more = {name: blurred_images(some, pixels) for pixels, name in blurs.items()}
    kinds: dict[str, Levels] = {
        BLUR: {pixels: drawn(name, len(some), repeats=REPEATS) for pixels, name in blurs.items()},
        NOISE: _shares((INDEPENDENT, len(images)), real, SHARES),
        BLENDED: _shares((BLENDS, len(some)), real, SHARES),
    }
    if len(np.unique(groups)) > 1:
        kinds[LOST] = {share: dropped_mode(groups, mode, share) for share in LOST_SHARES}
    kinds = {kind: {0.0: drawn(*real)} | levels for kind, levels in kinds.items()}
    viewed = viewed.with_populations(more | {BLENDS: blended_images(some, seed)})
    return list(_curves(1, viewed, known, kinds, draws, seed))


def copy_curves(
    viewed: ViewedControls, known: Values, held_out: int, copied: int, draws: Draws, seed: int
) -> list[DamageCurve]:
    """The same of rule 2, whose controls have so many held-out images and training images."""
    new = HELD_OUT, held_out
    levels = {0.0: drawn(*new)} | _shares((COPIES, copied), new, COPIED_SHARES)
    return list(_curves(2, viewed, known, {COPIED: levels}, draws, seed))


def _shares(bad: tuple[str, int], new: tuple[str, int], shares: Sequence[float]) -> Levels:
    return {share: mixed(share, bad, new, repeats=REPEATS) if share < 1 else drawn(*bad) for share in shares}


def _curves(
    rule: int, viewed: ViewedControls, known: Values, kinds: Mapping[str, Levels], draws: Draws, seed: int
) -> Iterator[DamageCurve]:
    """Those that are informative. Controls are drawn whose values are not known."""
    rng = np.random.default_rng([seed, rule, 3])
    for metric, damages in METRICS[rule].items():
        found = {control.name: values for control, values in known.get(metric, {}).items()}
        levels = {kind: kinds[kind] for kind in damages if kind in kinds}
        missing = {each.name: each for kind in levels.values() for each in kind.values() if each.name not in found}
        more = viewed.values(draws, {metric: RULES[rule][metric]}, rng, list(missing.values()))
        found |= {control.name: values for control, values in more.get(metric, {}).items()}
        for kind in levels:
            values = {level: found[control.name] for level, control in levels[kind].items() if control.name in found}
            if len(values) == len(levels[kind]):  # else there are too few images
                curve = _curve(rule, kind, metric, viewed.space, values, draws)
                if curve.is_informative:
                    yield curve


def _curve(
    rule: int, kind: str, metric: str, space: str, values: dict[float, list[float]], draws: Draws
) -> DamageCurve:
    """From the values of the draws at each level; the pool that they are taken from is a draw from the world, too."""
    means = np.array([np.mean(each) for each in values.values()])
    monotone = isotonic_regression(means, increasing=bool(means[-1] >= means[0]))
    spread = float(np.sqrt(np.mean([np.var(each, ddof=1) for each in values.values()])))
    size = RULES[rule][metric].size(draws.few, draws.many)
    error = spread * float(np.sqrt(1 / min(map(len, values.values())) + size / draws.held_out))
    return DamageCurve(rule, kind, metric, space, size, tuple(values), tuple(monotone.tolist()), error)
