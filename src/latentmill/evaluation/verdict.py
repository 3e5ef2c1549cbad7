"""Does a model keep a rule? What the measures that have a say make of its samples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentmill.evaluation.calibration import Calibration

Status = Literal["holds", "broken", "cannot tell"]
INTERVAL = 2.0  # standard errors to either side


@dataclass(frozen=True)
class Estimate:
    """A measure of a model's samples, taken in subsets as large as the controls."""

    value: float
    standard_error: float
    calibration: Calibration

    @staticmethod
    def of(values: list[float], calibration: Calibration) -> "Estimate":
        """The mean; of one subset alone, the spread is that of the controls that keep the rule."""
        kept = max(each.deviation for each in calibration.seen if each.keeps)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else kept
        return Estimate(float(np.mean(values)), deviation / float(np.sqrt(len(values))), calibration)

    def is_beyond(self, threshold: float) -> bool:
        """Whether the value is as bad as the threshold, or worse."""
        badness = self.calibration.badness
        return badness(self.value) >= badness(threshold)

    def margin(self, threshold: float) -> float:
        """How far the worst value of the interval is from the threshold, on its better side, in standard errors."""
        badness, error = self.calibration.badness, max(self.standard_error, 1e-12)
        return (badness(threshold) - badness(self.value)) / error - INTERVAL

    def against(self, threshold: float) -> str:
        """In words."""
        word = "below" if self.calibration.higher_is_better else "above"
        interval = f"{self.value:.3g} ± {INTERVAL * self.standard_error:.2g}"
        return f"{self.calibration.name} {interval}, broken {word} {threshold:.3g}"


@dataclass(frozen=True)
class Verdict:
    """With what it rests on, in a sentence."""

    status: Status
    evidence: str
    samples: int


def verdict(estimates: list[Estimate], controls: list[str], samples: int) -> Verdict:
    """Of `samples` images; `controls` are those that break the rule.

    `broken` where a measure that has a say is beyond its threshold. `holds` where for each control some measure that
    tells it surely does not see it here: its interval ends before the threshold. Else `cannot tell`.
    """
    thresholds = [(each, each.calibration.threshold) for each in estimates]
    beyond = [(each, line) for each, line in thresholds if line is not None and each.is_beyond(line)]
    if beyond:
        return Verdict("broken", _told(beyond), samples)
    excluded = {control: _excluding(control, estimates) for control in controls}
    unsure = [control for control, found in excluded.items() if found is None]
    if unsure or not controls:
        return Verdict("cannot tell", f"no measure excludes {' or '.join(unsure)} with {samples} samples", samples)
    return Verdict("holds", _told([found for found in excluded.values() if found]), samples)


def _excluding(control: str, estimates: list[Estimate]) -> tuple[Estimate, float] | None:
    """The measure that is surest not to see `control`, and its threshold for that; None where none is sure."""
    told = [(each, each.calibration.told().get(control)) for each in estimates]
    sure = [(each, line) for each, line in told if line is not None and each.margin(line) > 0]
    return max(sure, key=lambda found: found[0].margin(found[1]), default=None)


def _told(found: list[tuple[Estimate, float]]) -> str:
    """The surest first; a measure that is found several times is told once, by the threshold nearest to it."""
    nearest: dict[str, tuple[Estimate, float]] = {}
    for each, line in sorted(found, key=lambda pair: abs(pair[0].margin(pair[1]))):
        nearest.setdefault(each.calibration.name, (each, line))
    return "; ".join(each.against(line) for each, line in reversed(nearest.values()))
