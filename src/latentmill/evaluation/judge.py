"""The two rules, calibrated on one data set: which measures have a say, and what they make of a model's samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from latentmill.data.batches import as_float
from latentmill.evaluation import controls
from latentmill.evaluation.calibration import Calibration, Control, Seen
from latentmill.evaluation.features import ClassifierFeatures, Features
from latentmill.evaluation.measures import HIGHER_IS_BETTER, OF_GROUPS, RULES, SHARES, measured
from latentmill.evaluation.spaces import Space, View
from latentmill.evaluation.verdict import Estimate, Verdict, verdict

SUBSET = 500  # images that a measure is given at a time: many depend on how many there are
SUBSETS = 6  # of a model's samples, at most
FEWEST = 20  # images in a subset: with fewer, no measure is worth calibrating


@dataclass(frozen=True)
class Judgement:
    """Of one model's samples."""

    estimates: dict[int, list[Estimate]]  # by rule
    verdicts: dict[int, Verdict]  # by rule


class Calibrator:
    """Shows the measures the controls.

    Controls need many images that no training set has, so a third of the training images plays that part, with the
    validation images; the rest are those that a copier copies. Features that are fitted must be fitted to the rest
    alone, which is `copied`. The judge uses the same features for rule 1, where the control's images and a model's
    samples are alike new to them; for rule 2 features fitted to all training images, which is what may be copied.
    How far a value moves between the two is seen on the validation images, to which both are blind.
    """

    def __init__(self, train: np.ndarray, val: np.ndarray, labels: np.ndarray | None, seed: int) -> None:
        """Images are uint8 (N, C, H, W); `labels` are those of train, then of val, if any."""
        self.seed = seed
        order = np.random.default_rng(seed).permutation(len(train))
        if labels is not None:  # a third of each class, for the shares of classes are measured too
            order = order[np.argsort(labels[order], kind="stable")]
        new = np.concatenate([order[::3], len(train) + np.arange(len(val))])
        self.copied = np.setdiff1d(order, new)  # indices into train, sorted
        self._copied, self._new = as_float(train[self.copied]), as_float(np.concatenate([train, val])[new])
        self._val = as_float(val)
        self._labels = None if labels is None else labels[new]
        self.size = min(SUBSET, len(new) // 2)

    def calibrate(self, rule: int, features: Features, test: np.ndarray) -> list[Calibration]:
        """The calibrations of rule 1 or 2 in one feature space; `test` is uint8 (M, C, H, W).

        None where there are too few images.
        """
        if self.size < FEWEST:
            return []
        space = Space(features, self._copied, as_float(test), self.seed)
        found: dict[str, dict[Control, list[float]]] = {}
        for control, values in self._draws(rule, space):
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(control, []).append(value)
        share, one = self.size / len(self._new), 1 / self.size
        by_class = isinstance(features, ClassifierFeatures)  # as the pool is split
        seen = {
            name: tuple(
                Seen.of(*each, share, one if name in SHARES else 0, by_class and name in OF_GROUPS)
                for each in values.items()
            )
            for name, values in found.items()
        }
        return [Calibration(rule, name, space.name, name in HIGHER_IS_BETTER, each) for name, each in seen.items()]

    def confirm(self, calibrations: list[Calibration], space: Space) -> list[Calibration]:
        """Those of rule 2, with the validation images among what keeps it, as `space` of all training images has them.

        Of these one draw is all there is: a further one differs from it by the deviation of both.
        """
        count = min(self.size, len(self._val))
        if not count:
            return calibrations
        rng = np.random.default_rng([self.seed, 2])
        values = {
            control.name: measured(2, space.view(control.draw(rng, count)), space).values
            for control in controls.kept_by_rule_2("validation images", self._val)
        }
        factor = sqrt(1 + self.size / count)
        return [
            each.confirmed({name: of[each.measure] for name, of in values.items()}, factor) for each in calibrations
        ]

    def _draws(self, rule: int, space: Space) -> Iterator[tuple[Control, dict[str, float]]]:
        rng = np.random.default_rng([self.seed, rule])
        for control in self._controls(rule, space):
            for _ in range(control.repeats):
                yield control, measured(rule, space.view(control.draw(rng, self.size)), space).values

    def _controls(self, rule: int, space: Space) -> list[Control]:
        if rule == 2:
            return controls.for_rule_2(self._new, self._copied)
        return controls.for_rule_1(self._new, space.view(self._new).cells if self._labels is None else self._labels)


class Judge:
    """Knows the data, and what each measure's values mean on it."""

    def __init__(self, spaces: dict[int, list[Space]], calibrations: list[Calibration], size: int) -> None:
        """`spaces` by rule, of all training images for rule 2; `calibrations` on subsets of `size` images."""
        self.spaces, self.calibrations, self.size = spaces, calibrations, size
        # What the test images alone are too few for, and why.
        given = [measured(rule, space.test[:size], space) for rule, each in spaces.items() for space in each]
        self.silent = sorted({message for each in given for message in each.silent})

    def judge(self, samples: np.ndarray) -> Judgement:
        """What `samples`, float32 (N, C, H, W) in [0, 1], say of the model that made them."""
        count = min(SUBSETS, len(samples) // self.size) if self.calibrations else 0
        used = samples[: count * self.size]
        estimates = {rule: self._estimates(rule, used) for rule in RULES}
        return Judgement(estimates, {rule: self._verdict(rule, found, len(used)) for rule, found in estimates.items()})

    def _estimates(self, rule: int, samples: np.ndarray) -> list[Estimate]:
        calibrated = {(each.measure, each.space): each for each in self.calibrations if each.rule == rule}
        found: dict[Calibration, list[float]] = {}
        for space in self.spaces[rule]:
            for part in self._parts(space, samples):
                for measure, value in measured(rule, part, space).values.items():
                    if (measure, space.name) in calibrated:
                        found.setdefault(calibrated[measure, space.name], []).append(value)
        return [Estimate.of(values, calibration) for calibration, values in found.items()]

    def _parts(self, space: Space, samples: np.ndarray) -> Iterator[View]:
        if len(samples):
            view = space.view(samples)
            yield from (view[start : start + self.size] for start in range(0, len(samples), self.size))

    def _verdict(self, rule: int, estimates: list[Estimate], samples: int) -> Verdict:
        if not self.calibrations:
            return Verdict("cannot tell", f"there are too few images for controls of at least {FEWEST}", samples)
        if not estimates:
            return Verdict("cannot tell", f"it takes at least {self.size} samples", samples)
        seen = next(each.seen for each in self.calibrations if each.rule == rule)
        return verdict(estimates, [each.control for each in seen if not each.keeps], samples)
