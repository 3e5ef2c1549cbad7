"""The verdicts on a model's samples under both rules, on one data set."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from latentmill.config import LimitsConfig
from latentmill.evaluation.calibration import Calibration
from latentmill.evaluation.copy_space import CopySpace, CopyView
from latentmill.evaluation.damage import DamageCurve, EquivalentDamage, equivalent_damages, phrase
from latentmill.evaluation.graded_controls import is_dropped_mode, without_one
from latentmill.evaluation.metrics import RULES, all_metrics, metrics_in, named_values
from latentmill.evaluation.spaces import FidelitySpace, View
from latentmill.evaluation.verdict import SUBSETS, Draws, Estimate, Verdict, verdict
from latentmill.features.distances import TooFew

FEWEST = 20  # images in a draw: with fewer, no metric is worth calibrating
FEWEST_HELD_OUT = 2 * FEWEST  # to draw from: `Pool.draws` takes at most half of them


@dataclass(frozen=True)
class Judgement:
    """Of one model's samples."""

    estimates: dict[int, list[Estimate]]  # by rule
    verdicts: dict[int, Verdict]  # by rule
    damages: list[EquivalentDamage] = field(default_factory=list)  # to real images that score the same

    def metrics(self) -> dict[str, Any]:
        """The verdicts, and each estimate by its space and metric, as the evaluation writes them."""
        by_space: dict[str, Any] = {}
        for each in chain(*self.estimates.values()):
            in_space = by_space.setdefault(each.calibration.space, {})
            in_space[each.calibration.metric] = {"value": each.value, "standard_error": each.standard_error}
        for found in self.damages:
            damage = {"damage": found.damage, "low": found.low, "high": found.high}
            by_space[found.curve.space][found.curve.metric].setdefault("damage", {})[found.curve.kind] = damage
        return {f"rule_{rule}": self._rule(rule) for rule in self.verdicts} | {"metrics": by_space}

    def _rule(self, rule: int) -> dict[str, Any]:
        """The verdict, and the equivalent damage in a phrase, if it was measured."""
        words = phrase(rule, (each for each in self.damages if each.curve.rule == rule))
        return asdict(self.verdicts[rule]) | ({"equivalent_damage": words} if words else {})


class Judge:
    """Knows the data, and what the values of each metric mean on it."""

    def __init__(
        self,
        fidelity_spaces: list[FidelitySpace],
        copy_spaces: list[CopySpace],
        calibrations: list[Calibration],
        draws: Draws,
        unavailable: Sequence[str] = (),
        curves: Sequence[DamageCurve] = (),
        limits: LimitsConfig | None = None,
    ) -> None:
        """Spaces of rule 1, and of rule 2 with all training images. The `calibrations` were made with such `draws`.

        `unavailable` are `unavailable_metrics`, `curves` say what scores mean, and controls were made by the `limits`.
        """
        self.fidelity_spaces, self.calibrations, self.draws = fidelity_spaces, calibrations, draws
        self.spaces: dict[int, list[Any]] = {1: fidelity_spaces, 2: copy_spaces}
        self.unavailable, self.curves, self.limits = unavailable, curves, limits

    @property
    def size(self) -> int:
        """The least number of samples that it can judge."""
        return max(self.draws.few, self.draws.many)

    def judge(self, samples: np.ndarray, rules: Collection[int] = tuple(RULES)) -> Judgement:
        """The verdicts on the model that made `samples`, float32 (N, C, H, W) in [0, 1], under one rule or both."""
        count = len(samples) // self.size * self.size if self.calibrations else 0
        estimates = {rule: self._estimates(rule, samples[:count]) if count else [] for rule in rules}
        verdicts = {rule: self._verdict(rule, found, count) for rule, found in estimates.items()}
        return Judgement(estimates, verdicts, equivalent_damages(chain(*estimates.values()), self.curves))

    def _estimates(self, rule: int, samples: np.ndarray) -> list[Estimate]:
        calibrated = {(each.metric, each.space): each for each in self.calibrations if each.rule == rule}
        found: dict[Calibration, list[float]] = {}
        for space in self.spaces[rule]:
            for metric, value in self._values(rule, space.view(samples), space):
                if (metric, space.name) in calibrated:
                    found.setdefault(calibrated[metric, space.name], []).append(value)
        return [Estimate.from_subsets(values, calibration) for calibration, values in found.items()]

    def _values(
        self, rule: int, view: View | CopyView, space: FidelitySpace | CopySpace
    ) -> Iterator[tuple[str, float]]:
        """Of each metric, of as many images at a time as it was calibrated with; for rule 2 of all samples."""
        for names, metric in metrics_in(space, rule).items():
            size = metric.size(self.draws.few, self.draws.many)
            count = len(view) // size
            if rule == 1 and metric.rows is not None:
                count = min(SUBSETS, count)
            for start in range(0, count * size, size):
                with suppress(TooFew):
                    yield from named_values(names, metric, view[start : start + size], space).items()

    def _verdict(self, rule: int, estimates: list[Estimate], samples: int) -> Verdict:
        if reasons := list(too_few(self.draws)):
            return Verdict("inconclusive", "; ".join(reasons), samples)
        if not self.calibrations:
            return Verdict("inconclusive", "no metric has a value on the controls", samples)
        if not estimates:
            return Verdict("inconclusive", f"a verdict needs at least {self.size} samples", samples)
        calibrations = [each for each in self.calibrations if each.rule == rule]
        negative = list(dict.fromkeys(control.name for each in calibrations for control in each.negative))
        if rule == 1 and not any(map(is_dropped_mode, negative)):  # no metric can then exclude that one is missing
            negative.append(without_one("mode"))
        return verdict(estimates, negative, samples, self.draws)


def too_few(draws: Draws) -> Iterator[str]:
    """What there are too few of for any metric to be calibrated, and how many would be enough."""
    if draws.many < FEWEST:
        yield f"a verdict needs at least {FEWEST} samples, but there are {draws.many}"
    if draws.held_out < FEWEST_HELD_OUT:
        yield f"a verdict needs at least {draws.needed(FEWEST_HELD_OUT)} {draws.kind}, but there are {draws.there}"


def unavailable_metrics(fidelity_spaces: list[FidelitySpace], copy_spaces: list[CopySpace], draws: Draws) -> list[str]:
    """The metrics that have no value even for test images, because these are too few, each with the reason."""
    by_rule: dict[int, list[Any]] = {1: fidelity_spaces, 2: copy_spaces}
    values = [
        all_metrics(rule, space.test[: draws.few], space.test[: draws.many], space)
        for rule, spaces in by_rule.items()
        for space in spaces
    ]
    return sorted({reason for each in values for reason in each.unavailable})
