"""The steps that make a judge: features are fitted, metrics are calibrated, and both are assembled.

Each step is a pure function, so that several can run at the same time.
"""

from concurrent.futures import Future
from typing import Any

import numpy as np

from latentmill.config import EvaluationConfig, LimitsConfig
from latentmill.evaluation.calibrator import Calibrated, Calibrator
from latentmill.evaluation.confirmation import confirm
from latentmill.evaluation.controls import LIMITS
from latentmill.evaluation.copy_space import kind_of_space
from latentmill.evaluation.judge import FEWEST, Judge, unavailable_metrics
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.pool import Pool
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import random_subset
from latentmill.features.aligned import NAME as ALIGNED
from latentmill.features.aligned import can_align
from latentmill.features.spaces import ClassifierFeatures, Features, feature_space
from latentmill.runtime.cores import cores
from latentmill.threads import steps_at_a_time

SAMPLES = EvaluationConfig().samples
LEARNT = "learnt"  # features of the classifier, or of a self-supervised encoder where it can't learn the labels
LEAST_LEARNT = 0.2  # the least balanced recall of the classifier, rescaled to 0 for chance and 1 for certainty
FITTED = 20_000  # training images: more than a small network sees in its training


def chosen_features(names: list[str] | None, data: PreparedData) -> dict[int, list[str]]:
    """The feature spaces of each rule: all `names`, or the default.

    The default for rule 1 is pixels and a network: a classifier if it can learn the labels, else a self-supervised
    encoder. For rule 2 it is pixels alone; aligned ones are added, unless images are tiny.
    """
    default = ["pixels", "self-supervised" if data.known_labels is None else LEARNT]
    aligned = [ALIGNED] if can_align(data.train.shape[1:]) else []
    return {1: names or default, 2: list(dict.fromkeys([*(names or ["pixels"]), *aligned]))}


def make_judge(
    data: PreparedData, names: list[str] | None, seed: int, samples: int = SAMPLES, limits: LimitsConfig = LIMITS
) -> Judge:
    """The judge that `Evaluation` makes, in this process; for models that are judged by so many `samples`."""
    chosen, pool = chosen_features(names, data), choose_pool(data, seed)
    draws = pool.draws(samples)
    if draws.few < FEWEST:
        return Judge([], [], [], draws, limits=_calibrator(data, pool, seed, samples, limits).limits)
    copied: dict[str, Features] = {}
    calibrated: dict[tuple[int, str], Future[Calibrated]] = {}
    with steps_at_a_time(cores()) as steps:
        for rule in (2, 1):  # what takes longest first
            for name in reversed(chosen[rule]):
                if name not in copied:
                    copied[name] = fit(name, True, data, pool, seed)  # in turn: torch has one generator
                calibrated[rule, name] = steps.submit(calibrate, rule, copied[name], data, pool, seed, samples, limits)
        whole = [fit(name, False, data, pool, seed) for name in chosen[2]]
        found = [calibrated[rule, name].result() for rule in RULES for name in chosen[rule]]
    return assemble(data, pool, seed, samples, limits, len(chosen[1]), *found, *whole)


def choose_pool(data: PreparedData, seed: int) -> Pool:
    """Which images are new in the calibration, and which are copied."""
    return Pool.chosen(data.train, data.val, data.known_labels, seed, data.train_groups, data.flip)


def fit(name: str, copied: bool, data: PreparedData, pool: Pool, seed: int) -> Features:
    """Features fitted to training images, `FITTED` at most: to all, or to those `copied` in the controls."""
    chosen = np.sort(random_subset(pool.copied if copied else np.arange(len(data.train)), FITTED, seed))
    if name != LEARNT:
        return feature_space(name, data.train, data.train_labels, seed, chosen)
    assert data.train_labels is not None  # else the name is another
    classifier = ClassifierFeatures.fit(data.train, data.train_labels, seed, chosen)
    if _calibrator(data, pool, seed, SAMPLES).learnt(classifier) >= LEAST_LEARNT:
        return classifier
    return feature_space("self-supervised", data.train, None, seed, chosen)


def calibrate(
    rule: int,
    features: Features,
    data: PreparedData,
    pool: Pool,
    seed: int,
    samples: int,
    limits: LimitsConfig = LIMITS,
) -> Calibrated:
    """The calibrations of a rule's metrics in one feature space."""
    return _calibrator(data, pool, seed, samples, limits).calibrate(rule, features, data.test)


def assemble(
    data: PreparedData, pool: Pool, seed: int, samples: int, limits: LimitsConfig, fidelity: int, *made: Any
) -> Judge:
    """The judge, from the results of the other steps.

    `made` are the calibrations, first `fidelity` of rule 1, then those of rule 2, then for each of the latter features
    fitted to all training images. They are positional, because Ray resolves the results of tasks only there.
    """
    calibrator = _calibrator(data, pool, seed, samples, limits)
    count = (len(made) - fidelity) // 2
    calibrated_1, calibrated_2, whole = made[:fidelity], made[fidelity : fidelity + count], made[fidelity + count :]
    if not any(each.calibrations for each in made[: fidelity + count]):  # there are too few images, also for spaces
        return Judge([], [], [], calibrator.draws, limits=calibrator.limits)
    spaces = [kind_of_space(features)(features, data.train, data.test, seed, flip=data.flip) for features in whole]
    found = [calibration for each in calibrated_1 for calibration in each.calibrations]
    for each, space in zip(calibrated_2, spaces, strict=True):
        found += confirm(each.calibrations, space, data.val, calibrator.draws, seed)
    fidelity_spaces = [each.space for each in calibrated_1]
    unavailable = unavailable_metrics(fidelity_spaces, spaces, calibrator.draws)
    curves = [curve for each in (*calibrated_1, *calibrated_2) for curve in each.curves]
    return Judge(fidelity_spaces, spaces, found, calibrator.draws, unavailable, curves, calibrator.limits)


def assemble_ceiling(data: PreparedData, pool: Pool, seed: int, samples: int, *calibrated: Any) -> Judge:
    """The judge of reconstructions by Rule 1, from its calibrations, for as many as there are validation images."""
    spaces = [each.space for each in calibrated if each.space is not None]
    found = [calibration for each in calibrated for calibration in each.ceiling]
    curves = [curve for each in calibrated for curve in each.curves]
    return Judge(spaces, [], found, _calibrator(data, pool, seed, samples).ceiling_draws, curves=curves)


def _calibrator(data: PreparedData, pool: Pool, seed: int, samples: int, limits: LimitsConfig = LIMITS) -> Calibrator:
    return Calibrator(pool, data.train, data.val, data.known_labels, seed, samples, limits)
