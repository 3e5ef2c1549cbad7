"""The calibrations of rule 2 confirmed in the judge's own features, with the validation images as positive controls."""

from math import sqrt

import numpy as np

from latentmill.evaluation import controls
from latentmill.evaluation.calibration import Calibration
from latentmill.evaluation.copy_space import CopySpace, CopyView
from latentmill.evaluation.graded_controls import HELD_OUT
from latentmill.evaluation.metrics import all_metrics, least_deviation
from latentmill.evaluation.pool import POOL
from latentmill.evaluation.spaces import random_subset
from latentmill.evaluation.verdict import Draws

VALIDATION = "validation images"
SPOILT = 2_000  # validation images, at most, that are also spoilt


def confirm(
    calibrations: list[Calibration], space: CopySpace, val: np.ndarray, draws: Draws, seed: int
) -> list[Calibration]:
    """Calibrations of rule 2, made by such `draws`, with the validation images (N, C, H, W), uint8, as controls too.

    They are used as they are, blurred and spoilt. `space` has all training images. There is only one draw of the
    validation images: a further one would differ from it by the deviation of both.
    """
    if not len(val):
        return calibrations
    rng = np.random.default_rng([seed, 2])
    val = random_subset(val, POOL, seed)
    steady, few = controls.sharp_and_blurred(VALIDATION, val), val[:SPOILT]
    made = controls.spoilt_images(few, space.cells.assign(space.features(few)), seed)
    spoilt = {f"{VALIDATION}: {name}": each for name, each in made.items()}
    known = dict(zip([*steady, *spoilt], [*controls.sharp_and_blurred(HELD_OUT, val), *made], strict=True))
    for populations in (steady, spoilt):
        views = {name: space.view_population(each) for name, each in populations.items()}
        values = {name: _one_draw(view, space, draws, rng) for name, view in views.items()}
        (count,) = {each.count for each in populations.values()}
        calibrations = [
            each.confirmed(
                {name: (known[name], found[each.metric]) for name, found in values.items()},
                _deviation_factor(each, count, draws.held_out),
                least_deviation(each.metric, each.size, count),
                steady.keys(),
            )
            for each in calibrations
        ]
    return calibrations


def _one_draw(view: CopyView, space: CopySpace, draws: Draws, rng: np.random.Generator) -> dict[str, float]:
    """The metrics of rule 2 of one draw from a population."""
    small = view[controls.without_replacement(rng)(len(view), draws.few)]
    large = view[controls.with_replacement(rng)(len(view), draws.many)]
    return all_metrics(2, small, large, space).values


def _deviation_factor(calibration: Calibration, val: int, new: int) -> float:
    """By how much a further draw deviates from one of `val` validation images, over the known deviation.

    That is the deviation of a draw and of the mean of all `new` images, as variances 1 / size and 1 / new.
    """
    size = calibration.size
    val_variance = 1 / min(size, val) if calibration.max_size is not None else 1 / size + 1 / val
    return sqrt((1 / size + val_variance) / (1 / size + 1 / new))
