"""The two rules, on one data set: what the measures that have a say make of a model's samples."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentmill.evaluation.calibration import Calibration
from latentmill.evaluation.controls import is_lost, lost
from latentmill.evaluation.fidelity import TooFew
from latentmill.evaluation.measures import RULES, measured, named
from latentmill.evaluation.spaces import CopySpace, CopyView, Space, View
from latentmill.evaluation.verdict import Draws, Estimate, Verdict, verdict

SUBSETS = 6  # of a model's samples, at most, for measures that take few at a time
FEWEST = 20  # images in a draw: with fewer, no measure is worth calibrating


@dataclass(frozen=True)
class Judgement:
    """Of one model's samples."""

    estimates: dict[int, list[Estimate]]  # by rule
    verdicts: dict[int, Verdict]  # by rule


class Judge:
    """Knows the data, and what each measure's values mean on it."""

    def __init__(
        self,
        fidelity_spaces: list[Space],
        copy_spaces: list[CopySpace],
        calibrations: list[Calibration],
        draws: Draws,
    ) -> None:
        """Spaces of rule 1, and of rule 2 with all training images. The `calibrations` were made with such `draws`."""
        self.fidelity_spaces, self.calibrations, self.draws = fidelity_spaces, calibrations, draws
        self.spaces: dict[int, list[Any]] = {1: fidelity_spaces, 2: copy_spaces}
        # What the test images alone are too few for, and why.
        given = [
            measured(rule, space.test[: draws.few], space.test[: draws.many], space)
            for rule, each in self.spaces.items()
            for space in each
        ]
        self.silent = sorted({message for each in given for message in each.silent})

    @property
    def size(self) -> int:
        """Samples that it takes."""
        return max(self.draws.few, self.draws.many)

    def judge(self, samples: np.ndarray, rules: Collection[int] = tuple(RULES)) -> Judgement:
        """What `samples`, float32 (N, C, H, W) in [0, 1], say of the model that made them, under one rule or both."""
        count = len(samples) // self.size * self.size if self.calibrations else 0
        estimates = {rule: self._estimates(rule, samples[:count]) if count else [] for rule in rules}
        return Judgement(estimates, {rule: self._verdict(rule, found, count) for rule, found in estimates.items()})

    def _estimates(self, rule: int, samples: np.ndarray) -> list[Estimate]:
        calibrated = {(each.measure, each.space): each for each in self.calibrations if each.rule == rule}
        found: dict[Calibration, list[float]] = {}
        for space in self.spaces[rule]:
            for measure, value in self._values(rule, space.view(samples), space):
                if (measure, space.name) in calibrated:
                    found.setdefault(calibrated[measure, space.name], []).append(value)
        return [Estimate.of(values, calibration) for calibration, values in found.items()]

    def _values(self, rule: int, view: View | CopyView, space: Space | CopySpace) -> Iterator[tuple[str, float]]:
        """Of each measure, of as many images at a time as it was calibrated with."""
        for names, measure in RULES[rule].items():
            size = measure.size(self.draws.few, self.draws.many)
            count = len(view) // size if measure.rows is None else min(SUBSETS, len(view) // size)
            for start in range(0, count * size, size):
                with suppress(TooFew):
                    yield from named(names, measure, view[start : start + size], space).items()

    def _verdict(self, rule: int, estimates: list[Estimate], samples: int) -> Verdict:
        if not self.calibrations:
            return Verdict("cannot tell", f"there are too few images for controls of at least {FEWEST}", samples)
        if not estimates:
            return Verdict("cannot tell", f"it takes at least {self.size} samples", samples)
        seen = [seen for each in self.calibrations if each.rule == rule for seen in each.seen]
        asked = list(dict.fromkeys(each.control for each in seen if not each.keeps))
        if rule == 1 and not any(map(is_lost, asked)):  # then no measure says that none is
            asked.append(lost("mode"))
        return verdict(estimates, asked, samples, self.draws)
