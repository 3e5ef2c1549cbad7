"""How a judge is made: features are fitted, measures calibrated, and both put together.

Each step is a function of its arguments, so that they may run at a time, wherever there is a core.
"""

from typing import Any

import numpy as np

from latentmill.evaluation.calibrator import Calibrated, Calibrator
from latentmill.evaluation.entry import Material
from latentmill.evaluation.features import ClassifierFeatures, Features, feature_space
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.measures import RULES
from latentmill.evaluation.pool import Pool
from latentmill.evaluation.spaces import CopySpace, some_of

SAMPLES = 10_000  # as in params.yaml
LEARNT = "learnt"  # features of the classifier, or where it can't learn the labels, of an encoder without them
LEAST_LEARNT = 0.2  # of what there is to learn, from the recall of chance, 0, to that of certainty, 1
FITTED = 20_000  # training images: more than a small network sees in its training


def chosen_features(names: list[str] | None, given: Material) -> dict[int, list[str]]:
    """The feature spaces of each rule: all `names`, or where nothing is said the same for all data.

    For rule 1 pixels and a network: the labels' classifier, if it learns them, or one that teaches itself. For rule 2
    pixels alone.
    """
    if names is not None:
        return dict.fromkeys(RULES, names)
    return {1: ["pixels", "self-supervised" if given.known_labels is None else LEARNT], 2: ["pixels"]}


def judge_of(given: Material, names: list[str] | None, seed: int, samples: int = SAMPLES) -> Judge:
    """The judge that `Evaluation` makes, here and now; of models that are judged by so many `samples`."""
    chosen, pool = chosen_features(names, given), pool_of(given, seed)
    copied = {name: fit(name, True, given, pool, seed) for name in chosen[1]}
    calibrated = [calibrate(rule, copied[name], given, pool, seed, samples) for rule in RULES for name in chosen[rule]]
    whole = [fit(name, False, given, pool, seed) for name in chosen[2]]
    return assemble(given, pool, seed, samples, len(chosen[1]), *calibrated, *whole)


def pool_of(given: Material, seed: int) -> Pool:
    """Which images are new to the calibration, and which are copied there."""
    return Pool.chosen(given.train, given.val, given.known_labels, seed, given.train_groups)


def fit(name: str, copied: bool, given: Material, pool: Pool, seed: int) -> Features:
    """Features fitted to training images, or to those alone that are copied among the controls: `FITTED` at most."""
    chosen = np.sort(some_of(pool.copied if copied else np.arange(len(given.train)), FITTED, seed))
    if name != LEARNT:
        return feature_space(name, given.train, given.train_labels, seed, chosen)
    assert given.train_labels is not None  # else nothing is to be learnt
    classifier = ClassifierFeatures.fit(given.train, given.train_labels, seed, chosen)
    if _calibrator(given, pool, seed, SAMPLES).learnt(classifier) >= LEAST_LEARNT:
        return classifier
    return feature_space("self-supervised", given.train, None, seed, chosen)


def calibrate(rule: int, features: Features, given: Material, pool: Pool, seed: int, samples: int) -> Calibrated:
    """What the measures of a rule make of the controls in one feature space."""
    return _calibrator(given, pool, seed, samples).calibrate(rule, features, given.test)


def assemble(given: Material, pool: Pool, seed: int, samples: int, fidelity: int, *made: Any) -> Judge:
    """`made` are calibrations, `fidelity` of rule 1 and then those of rule 2, and features for these, fitted to all.

    One after the other: Ray looks for what is started only there.
    """
    calibrator = _calibrator(given, pool, seed, samples)
    count = (len(made) - fidelity) // 2
    of_rule_1, of_rule_2, whole = made[:fidelity], made[fidelity : fidelity + count], made[fidelity + count :]
    if not any(each.calibrations for each in made[: fidelity + count]):  # there are too few images, also for spaces
        return Judge([], [], [], calibrator.draws)
    spaces = [CopySpace(features, given.train, given.test, seed) for features in whole]
    found = [each for of in of_rule_1 for each in of.calibrations]
    for of, space in zip(of_rule_2, spaces, strict=True):
        found += calibrator.confirm(of.calibrations, space)
    return Judge([each.space for each in of_rule_1], spaces, found, calibrator.draws)


def _calibrator(given: Material, pool: Pool, seed: int, samples: int) -> Calibrator:
    return Calibrator(pool, given.train, given.val, given.known_labels, seed, samples)
