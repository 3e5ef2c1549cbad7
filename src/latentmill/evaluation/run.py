"""The evaluation of a whole ladder: every question of every entry a task of its own, on all cores at a time."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from latentmill.config import EvaluationConfig
from latentmill.errors import InputError
from latentmill.evaluation.calibration import Calibration
from latentmill.evaluation.entry import Findings, Material, Usual, judge_model, judge_samples, usual
from latentmill.evaluation.features import Features, feature_space
from latentmill.evaluation.judge import Calibrator, Judge
from latentmill.evaluation.measures import RULES
from latentmill.evaluation.results import MODEL
from latentmill.evaluation.sampling import routes
from latentmill.evaluation.spaces import Space
from latentmill.heartbeat import TimeLeft, duration
from latentmill.sweep.mapped import placed
from latentmill.sweep.tasks import in_order_of_end, result, share, start
from latentmill.variant import Variant


class Evaluation:
    """Starts all tasks when made; within a `cluster`. What has ended can be had while the others run."""

    def __init__(self, models: dict[str, Variant], given: Material, config: EvaluationConfig) -> None:
        train, val, test = (placed(images) for images in (given.train, given.val, given.test))
        shared, seed = share(replace(given, train=train, val=val, test=test)), config.seed
        names = config.features or usual_features(given)
        copied, whole = ([start(fit, name, part, shared, seed) for name in names] for part in (True, False))
        calibrations = [start(calibrate, rule, features, shared, seed) for features in copied for rule in RULES]
        self._usual = start(usual, shared, seed)
        self._judge = start(assemble, len(names), shared, seed, *copied, *whole, *calibrations)
        self._of_data = [*copied, *whole, *calibrations, self._usual, self._judge]
        self._asked = {}
        for entry, model in models.items():
            of = share(model)
            self._asked[start(judge_model, of, shared, config)] = entry, MODEL
            for route in routes(model):
                asked = start(judge_samples, of, route, shared, self._usual, self._judge, config)
                self._asked[asked] = entry, route
        self._done, self._left, self._started = 0, TimeLeft(), time.monotonic()

    @property
    def usual(self) -> Usual:
        found: Usual = result(self._usual)
        return found

    @property
    def judge(self) -> Judge:
        found: Judge = result(self._judge)
        return found

    def findings(self) -> Iterator[tuple[str, str, Findings | InputError]]:
        """Entry, route or `MODEL`, and what was found or why nothing was, each as soon as it is there.

        Raises:
            InputError: what all entries rest on can't be had.
        """
        for ended in in_order_of_end([*self._of_data, *self._asked]):
            self._done += 1
            if ended not in self._asked:
                result(ended)
                continue
            try:
                found = result(ended)
            except InputError as error:
                found = error
            yield *self._asked[ended], found

    def status(self) -> str:
        """How far it has come, in one line."""
        total = len(self._of_data) + len(self._asked)
        so_far = time.monotonic() - self._started
        left = self._left.told(so_far / self._done * (total - self._done) if self._done else None)
        return f"[{self._done}/{total}] evaluating, {duration(so_far)} so far" + (
            "" if left is None else f", {duration(left)} left"
        )


def usual_features(given: Material) -> list[str]:
    """The feature spaces of images that nothing is said about."""
    return ["pixels"] if given.train_labels is None else ["pixels", "classifier"]


def judge_of(given: Material, names: list[str], seed: int) -> Judge:
    """The judge that `Evaluation` makes, here and now."""
    copied, whole = ([fit(name, part, given, seed) for name in names] for part in (True, False))
    calibrations = [calibrate(rule, features, given, seed) for features in copied for rule in RULES]
    return assemble(len(names), given, seed, *copied, *whole, *calibrations)


def fit(name: str, copied: bool, given: Material, seed: int) -> Features:
    """Features fitted to all training images, or to those alone that are copied among the controls."""
    train, labels = given.train, given.train_labels
    if copied:
        chosen = Calibrator(train, given.val, given.known_labels, seed).copied
        train, labels = train[chosen], None if labels is None else labels[chosen]
    return feature_space(name, train, labels, seed)


def calibrate(rule: int, features: Features, given: Material, seed: int) -> list[Calibration]:
    """What the measures of a rule make of the controls in one feature space."""
    return Calibrator(given.train, given.val, given.known_labels, seed).calibrate(rule, features, given.test)


def assemble(names: int, given: Material, seed: int, *made: Any) -> Judge:
    """`made` are `copied`, `whole` and calibrations, one after the other: Ray looks for what is started only there."""
    copied, whole, calibrations = made[:names], made[names : 2 * names], made[2 * names :]
    calibrator = Calibrator(given.train, given.val, given.known_labels, seed)
    found = [each for of_space in calibrations for each in of_space]
    if not found:  # there are too few images, also for spaces
        return Judge({rule: [] for rule in RULES}, [], calibrator.size)
    known = given.train[calibrator.copied]
    spaces = {
        1: [Space(features, known, given.test, seed) for features in copied],
        2: [Space(features, given.train, given.test, seed) for features in whole],
    }
    confirmed = [
        each
        for space in spaces[2]
        for each in calibrator.confirm([each for each in found if (each.rule, each.space) == (2, space.name)], space)
    ]
    return Judge(spaces, [each for each in found if each.rule == 1] + confirmed, calibrator.size)
