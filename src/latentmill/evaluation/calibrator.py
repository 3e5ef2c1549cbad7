"""Computes the metrics on the controls: the values of each are its calibration."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from latentmill.config import LimitsConfig
from latentmill.evaluation import controls
from latentmill.evaluation.calibration import (
    Calibration,
    Control,
    ControlValues,
    factors_with_replacement,
    factors_without_replacement,
)
from latentmill.evaluation.control_draws import Values, ViewedControls, metrics_of_other_size
from latentmill.evaluation.controls import Controls
from latentmill.evaluation.copy_space import CopySpace, kind_of_space
from latentmill.evaluation.corruptions import usual_limit
from latentmill.evaluation.damage import DamageCurve
from latentmill.evaluation.damage_curves import copy_curves, fidelity_curves
from latentmill.evaluation.graded_controls import is_dropped_mode
from latentmill.evaluation.groups import Classes, balanced_recall, joined_classes
from latentmill.evaluation.judge import FEWEST
from latentmill.evaluation.metrics import (
    DETECTS_LOST_MODES,
    HIGHER_IS_BETTER,
    RULES,
    Metric,
    least_deviation,
    metrics_in,
)
from latentmill.evaluation.pool import POOL, Pool
from latentmill.evaluation.spaces import FidelitySpace, random_subset
from latentmill.evaluation.verdict import Draws
from latentmill.features.spaces import ClassifierFeatures, Features


@dataclass(frozen=True)
class Calibrated:
    """The calibrations of one rule in one feature space."""

    space: FidelitySpace | None  # of rule 1, which the judge uses too
    calibrations: list[Calibration]
    ceiling: list[Calibration] = field(default_factory=list)  # of rule 1, with the `ceiling_draws`
    curves: list[DamageCurve] = field(default_factory=list)


class Calibrator:
    """Draws controls from a pool, and computes the metrics on them.

    Features that are fitted must be fitted to the pool's `copied` images alone. For rule 1 the judge uses the same
    features, because the images of the controls and a model's samples are both new to them; for rule 2 it uses features
    fitted to all training images, each of which may be copied. How far a value moves between the two is measured on the
    validation images, to which neither is fitted.
    """

    def __init__(
        self,
        pool: Pool,
        train: np.ndarray,
        val: np.ndarray,
        labels: np.ndarray | None,
        seed: int,
        samples: int,
        limits: LimitsConfig = controls.LIMITS,
    ) -> None:
        """The `pool` was chosen of these images, uint8 (N, C, H, W), maybe mapped from disk.

        `labels` are those of train, then of val, if any. Models are judged by so many `samples`.
        """
        self.pool, self.seed, self.draws = pool, seed, pool.draws(samples)
        self.limits = limits.model_copy(update={"blur": limits.blur or usual_limit(train)})
        self.ceiling_draws = pool.draws(min(samples, len(val)))  # of reconstructions: an image each, none repeated
        self._train, self._val = train, val
        self._labels = None if labels is None else pool.labels(labels, len(train))

    @cached_property
    def new(self) -> np.ndarray:
        """The pool, uint8 (N, C, H, W): a copy, made only when it is needed, not to fit features."""
        return self.pool.images(self._train, self._val)

    def calibrate(self, rule: int, features: Features, test: np.ndarray) -> Calibrated:
        """Rule 1 or 2 in one feature space; `test` is uint8 (M, C, H, W). Empty where there are too few images."""
        if self.draws.few < FEWEST:
            return Calibrated(None, [])
        space = (
            self.space(features, test)
            if rule == 1
            else kind_of_space(features)(features, self._train, test, self.seed, self.pool.copied, self.pool.flip)
        )
        viewed = ViewedControls(rule, space, self._controls(rule, space))
        values = viewed.values(self.draws, metrics_in(space, rule), np.random.default_rng([self.seed, rule]))
        found = [self._calibration(rule, space, name, each, self.draws) for name, each in values.items()]
        ceiling = self._ceiling(space, viewed, found) if isinstance(space, FidelitySpace) else []
        curves = self._curves(space, viewed, values)
        return Calibrated(space if isinstance(space, FidelitySpace) else None, found, ceiling, curves)

    def _curves(self, space: FidelitySpace | CopySpace, viewed: ViewedControls, known: Values) -> list[DamageCurve]:
        if isinstance(space, FidelitySpace):
            return fidelity_curves(viewed, known, self.new, self.groups(space), space.mode, self.draws, self.seed)
        return copy_curves(viewed, known, len(self.new), min(POOL, len(self.pool.copied)), self.draws, self.seed)

    def _ceiling(self, space: FidelitySpace, viewed: ViewedControls, known: list[Calibration]) -> list[Calibration]:
        """Those `known` that hold for the `ceiling_draws` too, and the others made again, with smaller draws."""
        if (draws := self.ceiling_draws).few < FEWEST:
            return []
        again = metrics_of_other_size(1, draws, self.draws)
        values = viewed.values(draws, again, np.random.default_rng([self.seed, 1, 1]))
        smaller = [self._calibration(1, space, name, each, draws) for name, each in values.items()]
        return [each for each in known if each.metric not in ", ".join(again).split(", ")] + smaller

    def space(self, features: Features, test: np.ndarray) -> FidelitySpace:
        """The space of rule 1. Its groups are classes if the classifier separates most of them, else clusters."""
        size = self.draws.effective
        space = FidelitySpace(features, test, self.seed, size)
        if isinstance(features, ClassifierFeatures) and self._labels is not None:
            rows = features(self.new)
            found, true = self._classes(features, rows)
            joined = joined_classes(found, true, size, len(features.class_names))
            if joined is not None:
                space.group_by(Classes(features, joined), rows)
        return space

    def learnt(self, features: ClassifierFeatures) -> float:
        """The balanced recall of the classifier on new images, rescaled: 1 at most, about 0 by chance."""
        found, true = self._classes(features, features(self.new))
        chance = 1 / len(np.unique(true))
        return (balanced_recall(found, true) - chance) / (1 - chance) if chance < 1 else 1.0

    def _classes(self, features: ClassifierFeatures, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes of the pool by the classifier, from its features (N, D), and the true ones: both (N)."""
        assert self._labels is not None
        each = Classes(features, np.arange(len(features.class_names)))
        return each.assign(rows), each.assign_labels(self._labels)

    def _controls(self, rule: int, space: Any) -> Controls:
        if rule == 2:
            cells = space.cells.assign(space.features(self.new))
            copied = np.sort(random_subset(self.pool.copied, POOL, self.seed))
            copies = self.pool.copies(self._train[copied])
            return controls.rule_2_controls(self.new, cells, copies, self.seed, self.limits)
        return controls.rule_1_controls(self.new, self.groups(space), space.mode, self.seed, self.limits)

    def groups(self, space: FidelitySpace) -> np.ndarray:
        """The group of each new image (N): its class, or its cluster where there are none."""
        if isinstance(space.groups, Classes) and self._labels is not None:
            return space.groups.assign_labels(self._labels)
        return space.groups.assign(space.features(self.new))

    def _calibration(
        self, rule: int, space: FidelitySpace | CopySpace, name: str, values: dict[Control, list[float]], draws: Draws
    ) -> Calibration:
        metric = next(each for names, each in RULES[rule].items() if name in names.split(", "))
        size = metric.size(draws.few, draws.many)
        factors = self._factors(size, metric, isinstance(space, FidelitySpace) and isinstance(space.groups, Classes))
        least = least_deviation(name, size, self.draws.held_out), least_deviation(name, size, size)
        higher = name in HIGHER_IS_BETTER
        found = tuple(ControlValues.from_draws(*each, higher, factors, least) for each in values.items())
        excludes = isinstance(space, FidelitySpace) and name not in DETECTS_LOST_MODES
        only = frozenset(each.name for each in values if excludes and is_dropped_mode(each.name))
        return Calibration(rule, name, space.name, higher, found, size, metric.rows, only)

    def _factors(self, size: int, metric: Metric, by_class: bool) -> tuple[float, float]:
        """Where part of the pool was chosen to have the shares of the classes, only the rest can be off in these."""
        share = size / self.draws.held_out
        if metric.rows is not None:
            return factors_without_replacement(share)
        return factors_with_replacement(share * self.pool.random if by_class else share)
