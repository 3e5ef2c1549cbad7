"""Does a model keep a rule? What the measures that have a say make of its samples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentmill.evaluation.calibration import Calibration

Status = Literal["holds", "broken", "cannot tell"]
INTERVAL = 2.0  # standard errors to either side
KNOWN = 5  # subsets, for their spread to be known


@dataclass(frozen=True)
class Draws:
    """How many images a calibration had, and what limits that."""

    few: int  # images of a draw, for measures that take few at a time
    many: int  # for the others: as many as there are samples
    held_out: int  # images to draw from
    most: int  # that could be used
    twins: int = 0  # training images that were not held out, because others are the same

    @property
    def effective(self) -> int:
        """As many as one draw of the world, without a pool, would be worth."""
        return max(1, round(1 / (1 / max(1, self.many) + 1 / max(1, self.held_out))))


@dataclass(frozen=True)
class Estimate:
    """A measure of a model's samples, taken in subsets as large as the controls."""

    value: float
    standard_error: float
    calibration: Calibration

    @staticmethod
    def of(values: list[float], calibration: Calibration) -> "Estimate":
        """The mean; of few subsets, the spread is at least that of real images, which is known better."""
        real = next(each.within for each in calibration.seen if each.keeps)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        deviation = spread if len(values) >= KNOWN else max(spread, real)
        return Estimate(float(np.mean(values)), deviation / float(np.sqrt(len(values))), calibration)

    def is_beyond(self, threshold: float) -> bool:
        """Whether the value is as bad as the threshold, or worse."""
        badness = self.calibration.badness
        return badness(self.value) >= badness(threshold)

    def margin(self, threshold: float) -> float:
        """How far the worst value of the interval is from the threshold, on its better side, in standard errors."""
        badness, error = self.calibration.badness, max(self.standard_error, 1e-12)
        return (badness(threshold) - badness(self.value)) / error - INTERVAL

    def needed(self, threshold: float) -> float | None:
        """How many times as many samples would have an interval that ends before the threshold.

        None where no number would, because the value is at the threshold or beyond it.
        """
        if self.is_beyond(threshold):
            return None
        badness = self.calibration.badness
        return (INTERVAL * self.standard_error / (badness(threshold) - badness(self.value))) ** 2

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


def verdict(estimates: list[Estimate], controls: list[str], samples: int, draws: Draws) -> Verdict:
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
        reasons = [_unsure(control, estimates, samples, draws) for control in unsure] or ["there are no controls"]
        return Verdict("cannot tell", "; ".join(reasons), samples)
    return Verdict("holds", _told([found for found in excluded.values() if found]), samples)


def _unsure(control: str, estimates: list[Estimate], judged: int, draws: Draws) -> str:
    """Why `control` can't be excluded by so many samples that were judged, and how many images would do."""
    known = [each for each in estimates if control in {seen.control for seen in each.calibration.seen}]
    doubles = f" (without {draws.twins} training images that have twins)" if draws.twins else ""
    given = f"{draws.held_out} held-out images{doubles} and {draws.many} samples"
    if not known:
        return f"{given} are too few, or too much alike, for the control {control}"
    told = [(each, each.calibration.told().get(control)) for each in known]
    lines = [(each, line) for each, line in told if line is not None]
    near = [times for each, line in lines if (times := each.needed(line)) is not None]
    if near:
        return f"no measure excludes {control} with {judged} samples; about {_about(judged * min(near))} would do"
    if lines:
        return f"the samples look like the control {control} to each measure that tells it: {_told(lines)}"
    needed = [found for each in known if (found := each.calibration.needed(control)) is not None]
    blind = f"no measure tells {control} from real images"
    images, samples = (count * min(needed, default=np.inf) for count in (draws.held_out, draws.many))
    if images > draws.most:
        return f"{blind} in these feature spaces, and no number of images that can be used would do"
    return (
        f"{blind}; about {_about(images)} held-out images instead of {draws.held_out}{doubles}, "
        f"and {_about(samples)} samples instead of {draws.many}, would do"
    )


def _about(count: float) -> str:
    """Rounded up to two digits."""
    unit = 10 ** max(0, len(str(int(count))) - 2)
    return f"{int(-(-count // unit) * unit):,}"


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
