"""Shows the measures the controls: what each makes of them is its calibration."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np

from latentmill.evaluation import controls
from latentmill.evaluation.calibration import (
    Calibration,
    Control,
    Seen,
    factors_with_replacement,
    factors_without_replacement,
)
from latentmill.evaluation.controls import Controls
from latentmill.evaluation.features import ClassifierFeatures, Features
from latentmill.evaluation.groups import Classes, balanced_recall, told_apart
from latentmill.evaluation.judge import FEWEST
from latentmill.evaluation.measures import FINDS_LOST_MODES, HIGHER_IS_BETTER, RULES, SHARES, Measure, measured
from latentmill.evaluation.pool import POOL, Pool
from latentmill.evaluation.spaces import CopySpace, Space, joined, some_of

VALIDATION = "validation images"
SPOILT = 2_000  # of them, at most, that are spoilt


@dataclass(frozen=True)
class Calibrated:
    """Of one rule in one feature space."""

    space: Space | None  # of rule 1, for the judge to go on with
    calibrations: list[Calibration]


class Calibrator:
    """Draws from a pool, and shows the draws to measures.

    Features that are fitted must be fitted to the pool's `copied` alone. The judge uses the same features for rule 1,
    where the control's images and a model's samples are alike new to them; for rule 2 features fitted to all training
    images, which is what may be copied. How far a value moves between the two is seen on the validation images, to
    which both are blind.
    """

    def __init__(
        self,
        pool: Pool,
        train: np.ndarray,
        val: np.ndarray,
        labels: np.ndarray | None,
        seed: int,
        samples: int = 10_000,
    ) -> None:
        """The `pool` was chosen of these images, uint8 (N, C, H, W), maybe mapped from disk.

        `labels` are those of train, then of val, if any. Models are judged by so many `samples`.
        """
        self.pool, self.seed, self.draws = pool, seed, pool.draws(samples)
        self._train, self._val = train, val
        self._labels = None if labels is None else pool.labels(labels, len(train))

    @cached_property
    def _new(self) -> np.ndarray:
        """The pool, uint8 (N, C, H, W): a copy, which features that are fitted can do without."""
        return self.pool.images(self._train, self._val)

    def calibrate(self, rule: int, features: Features, test: np.ndarray) -> Calibrated:
        """Rule 1 or 2 in one feature space; `test` is uint8 (M, C, H, W). Nothing where there are too few images."""
        if self.draws.few < FEWEST:
            return Calibrated(None, [])
        space = (
            self.space(features, test)
            if rule == 1
            else CopySpace(features, self._train, test, self.seed, self.pool.copied)
        )
        found: dict[str, dict[Control, list[float]]] = {}
        for control, values in self._draws(rule, space):
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(control, []).append(value)
        made = [self._calibration(rule, space, name, values) for name, values in found.items()]
        return Calibrated(space if isinstance(space, Space) else None, made)

    def space(self, features: Features, test: np.ndarray) -> Space:
        """Of rule 1. Its groups are classes if most of them are told apart, else clusters."""
        size = self.draws.effective
        space = Space(features, test, self.seed, size)
        if isinstance(features, ClassifierFeatures) and self._labels is not None:
            rows = features(self._new)
            found, true = self._classes(features, rows)
            joined = told_apart(found, true, size, len(features.class_names))
            if joined is not None:
                space.group_by(Classes(features, joined), rows)
        return space

    def learnt(self, features: ClassifierFeatures) -> float:
        """How much of the labels of new images the classifier knows: at most 1; about 0 by chance."""
        found, true = self._classes(features, features(self._new))
        chance = 1 / len(np.unique(true))
        return (balanced_recall(found, true) - chance) / (1 - chance) if chance < 1 else 1.0

    def _classes(self, features: ClassifierFeatures, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the pool, as the classifier finds them in its features (N, D), and as they are: both (N)."""
        assert self._labels is not None
        each = Classes(features, np.arange(len(features.class_names)))
        return each.of(rows), each.of_labels(self._labels)

    def confirm(self, calibrations: list[Calibration], space: CopySpace) -> list[Calibration]:
        """Those of rule 2, with the validation images among what keeps it, as `space` of all training images has them.

        As they are, blurred, and spoilt. Of these one draw is all there is: a further one differs from it by the
        deviation of both.
        """
        if not len(self._val):
            return calibrations
        rng = np.random.default_rng([self.seed, 2])
        val = some_of(self._val, POOL, self.seed)
        unspoilt, few = controls.unspoilt(VALIDATION, val), val[:SPOILT]
        spoilt = controls.spoilt_images(few, space.cells.of(space.features(few)), self.seed)
        populations = unspoilt | {f"{VALIDATION}: {name}": each for name, each in spoilt.items()}
        of_pool = dict(zip(populations, [*controls.unspoilt("held-out images", val), *spoilt], strict=True))
        values = {name: self._measured(2, space.look_at(each), space, rng) for name, each in populations.items()}
        return [
            each.confirmed(
                {name: (of_pool[name], of[each.measure]) for name, of in values.items()},
                self._confirming(each),
                least_deviation(each.measure, each.size, min(POOL, len(self._val))),
                unspoilt.keys(),
            )
            for each in calibrations
        ]

    def _measured(self, rule: int, look: Any, space: Space | CopySpace, rng: np.random.Generator) -> dict[str, float]:
        """Of one draw from what was looked at."""
        few, many = controls.without_replacement(rng), controls.with_replacement(rng)
        ours, all_ours = look[few(len(look), self.draws.few)], look[many(len(look), self.draws.many)]
        return measured(rule, ours, all_ours, space).values

    def _confirming(self, calibration: Calibration) -> float:
        """By how much a further draw deviates from one of the validation images, in known deviations.

        That is the deviation of a draw and of the mean of all new images, as variances 1 / size and 1 / new.
        """
        size, val, new = calibration.size, min(POOL, len(self._val)), self.draws.held_out
        of_val = 1 / min(size, val) if calibration.most is not None else 1 / size + 1 / val
        return sqrt((1 / size + of_val) / (1 / size + 1 / new))

    def _draws(self, rule: int, space: Space | CopySpace) -> Iterator[tuple[Control, dict[str, float]]]:
        rng = np.random.default_rng([self.seed, rule])
        made = self._controls(rule, space)
        looks = {name: space.look_at(population) for name, population in made.populations.items()}
        few, many = controls.without_replacement(rng), controls.with_replacement(rng)
        for control in made.controls:
            for turn in range(control.repeats):
                drawn = (control.draw(few, self.draws.few, turn), control.draw(many, self.draws.many, turn))
                ours, all_ours = (joined([looks[name][of] for name, of in parts]) for parts in drawn)
                yield control, measured(rule, ours, all_ours, space).values

    def _controls(self, rule: int, space: Any) -> Controls:
        rows = space.features(self._new)
        if rule == 2:
            copied = np.sort(some_of(self.pool.copied, POOL, self.seed))
            return controls.for_rule_2(self._new, space.cells.of(rows), np.asarray(self._train[copied]), self.seed)
        groups = space.groups.of(rows)
        if isinstance(space.groups, Classes):
            assert self._labels is not None  # there are no classes without
            groups = space.groups.of_labels(self._labels)
        return controls.for_rule_1(self._new, groups, space.mode, self.seed)

    def _calibration(
        self, rule: int, space: Space | CopySpace, name: str, values: dict[Control, list[float]]
    ) -> Calibration:
        measure = next(each for names, each in RULES[rule].items() if name in names.split(", "))
        size = measure.size(self.draws.few, self.draws.many)
        factors = self._factors(size, measure, isinstance(space, Space) and isinstance(space.groups, Classes))
        least = least_deviation(name, size, self.draws.held_out), least_deviation(name, size, size)
        higher = name in HIGHER_IS_BETTER
        seen = tuple(Seen.of(*each, higher, factors, least) for each in values.items())
        modest = isinstance(space, Space) and name not in FINDS_LOST_MODES
        only = frozenset(each.name for each in values if modest and controls.is_lost(each.name))
        return Calibration(rule, name, space.name, higher, seen, size, measure.rows, only)

    def _factors(self, size: int, measure: Measure, by_class: bool) -> tuple[float, float]:
        """Where the pool has the world's shares of the classes, only the rest of it can be off in these."""
        share = size / self.draws.held_out
        if measure.rows is not None:
            return factors_without_replacement(share)
        return factors_with_replacement(share * self.pool.random if by_class else share)


def least_deviation(measure: str, size: int, pool: int) -> float:
    """That one image makes, of a draw or of the pool: of what is rarer than that none may be there."""
    return 1 / min(size, pool) if measure in SHARES else 0.0
