"""The verdict on a model under one rule: what the informative metrics say about its samples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentmill.evaluation.calibration import Calibration

Status = Literal["pass", "fail", "inconclusive"]
INTERVAL = 2.0  # standard errors to either side
SUBSETS = 6  # of the samples, at most, for metrics of rule 1 that take few at a time: each takes a while
KNOWN = 5  # subsets, from which on their spread is known well enough
ROUNDING = 1e-12  # of a value: equal values deviate by less


@dataclass(frozen=True)
class Draws:
    """How many images a calibration had, and what limits that."""

    few: int  # images of a draw, for metrics whose time grows faster than their number
    many: int  # for the others: as many as there are samples
    held_out: int  # images to draw from
    max_held_out: int  # that could be used
    near_duplicates: int = 0  # training images that were not held out, because others are nearly the same
    given: int | None = None  # to `latentmill judge`: its held-out images, of which half, rounded up, are drawn from

    @property
    def kind(self) -> str:
        """What there must be more of, to draw from more."""
        return "images for controls" if self.given is None else "held-out images"

    @property
    def there(self) -> int:
        """How many there are of that kind."""
        return self.held_out if self.given is None else self.given

    def needed(self, held_out: float) -> float:
        """How many there must be of that kind, to draw from so many."""
        return held_out if self.given is None else 2 * (-(-self.given // 2) + held_out - self.held_out) - 1

    @property
    def effective(self) -> int:
        """The number of images that would be worth as much if they were drawn from the world and not from a pool."""
        return max(1, round(1 / (1 / max(1, self.many) + 1 / max(1, self.held_out))))


@dataclass(frozen=True)
class Estimate:
    """A metric of a model's samples, taken in subsets as large as the controls."""

    value: float
    standard_error: float
    calibration: Calibration
    subsets: int = 1

    @staticmethod
    def from_subsets(values: list[float], calibration: Calibration) -> "Estimate":
        """The mean; of few subsets, the spread is at least that of real images, which is known better."""
        real = next(each.draw_deviation for each in calibration.controls if each.positive)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        deviation = spread if len(values) >= KNOWN else max(spread, real)
        if deviation < ROUNDING * max(map(abs, values)):
            deviation = 0.0
        return Estimate(float(np.mean(values)), deviation / float(np.sqrt(len(values))), calibration, len(values))

    def is_beyond(self, threshold: float) -> bool:
        """Whether the value is as bad as the threshold, or worse."""
        badness = self.calibration.badness
        return badness(self.value) >= badness(threshold)

    def margin(self, threshold: float) -> float:
        """How far the worst value of the interval is from the threshold, on its better side, in standard errors."""
        badness, error = self.calibration.badness, max(self.standard_error, 1e-12)
        return (badness(threshold) - badness(self.value)) / error - INTERVAL

    def samples_factor(self, threshold: float, held_out: float = np.inf) -> float | None:
        """With how many times as many samples the interval would end before the threshold.

        None where no number would do, because the value is at the threshold or beyond it, or because the metric does
        not read so many, in draws of at most half of the `held_out` images.
        """
        if self.is_beyond(threshold):
            return None
        badness = self.calibration.badness
        factor = (INTERVAL * self.standard_error / (badness(threshold) - badness(self.value))) ** 2
        most = self.calibration.max_size if self.calibration.rule == 1 else None
        return None if most is not None and self.read(factor) > SUBSETS * min(most, held_out // 2) else factor

    def read(self, factor: float) -> float:
        """How many samples it reads of `factor` times as many."""
        return factor * self.subsets * self.calibration.size

    def describe(self, verb: str, threshold: float) -> str:
        """In words: "precision (pixels) 0.91 ± 0.02, passes above 0.85"; other verbs are about the worse side."""
        is_above = self.calibration.higher_is_better == (verb == "passes")
        interval = f"{self.value:.3g} ± {INTERVAL * self.standard_error:.2g}"
        return f"{self.calibration.name} {interval}, {verb} {'above' if is_above else 'below'} {threshold:.3g}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a rule, with its evidence in a sentence."""

    status: Status
    evidence: str
    samples: int


Crossing = tuple[Estimate, float]  # with the threshold that it is compared with


def verdict(estimates: list[Estimate], controls: list[str], samples: int, draws: Draws) -> Verdict:
    """The verdict on `samples` images; `controls` are the names of the rule's negative controls.

    `fail` where an informative metric is beyond its threshold. `pass` where every negative control is excluded by a
    metric that separates it: the interval of the samples ends before the threshold. Else `inconclusive`.
    """
    thresholds = [(each, each.calibration.threshold) for each in estimates]
    failing = [(each, line) for each, line in thresholds if line is not None and each.is_beyond(line)]
    if failing:
        return Verdict("fail", _evidence("fails", failing), samples)
    excluded = {control: _exclusion(control, estimates) for control in controls}
    missing = [control for control, found in excluded.items() if found is None]
    if missing or not controls:
        reasons = [_doubt(control, estimates, samples, draws) for control in missing] or ["there are no controls"]
        return Verdict("inconclusive", "; ".join(reasons), samples)
    return Verdict("pass", _evidence("passes", [found for found in excluded.values() if found]), samples)


def _doubt(control: str, estimates: list[Estimate], judged: int, draws: Draws) -> str:
    """Why so many judged samples do not exclude `control`, and how many images or samples would."""
    calibrated = [each for each in estimates if control in {known.name for known in each.calibration.controls}]
    if not calibrated:
        images = f"{draws.there:,} {draws.kind}{_left_out(draws, ' ({})')}"
        return f"{images} and {draws.many} samples are too few, or too similar, for the control {control}"
    separated = [(each, each.calibration.separated().get(control)) for each in calibrated]
    lines = [(each, line) for each, line in separated if line is not None]
    factors = [factor for each, line in lines if (factor := each.samples_factor(line, draws.held_out)) is not None]
    inconclusive = f"no metric excludes {control} with {judged} samples"
    if factors:
        return f"{inconclusive}, but about {_about(judged * min(factors))} would be enough"
    read = [each.read(factor) for each, line in lines if (factor := each.samples_factor(line)) is not None]
    if read:
        return f"{inconclusive}, but {_enough(2 * min(read) / SUBSETS, max(judged, min(read)), judged, draws)}"
    near = [(each, line) for each, line in lines if not each.is_beyond(line)]
    if near:
        too_few = "and however many there were, the metrics that separate it would read too few"
        return f"{inconclusive}, {too_few}: {_evidence('passes', near)}"
    if lines:
        similar = ", ".join(_clauses("similar", lines))
        return f"by every metric that separates the control {control}, the samples look like it: {similar}"
    return f"no metric separates {control} from real images, {_images_needed(control, calibrated, draws)}"


def _images_needed(control: str, calibrated: list[Estimate], draws: Draws) -> str:
    """How many images and samples it takes to separate `control` from real images."""
    factors = [factor for each in calibrated if (factor := each.calibration.images_factor(control)) is not None]
    images, samples = (count * min(factors, default=np.inf) for count in (draws.held_out, draws.many))
    if images > draws.max_held_out:
        return "and in these feature spaces no number of images that can be used would be enough"
    return f"but {_enough(images, samples, draws.many, draws)}"


def _enough(images: float, samples: float, instead_of: int, draws: Draws) -> str:
    """In words: so many images to draw from, and samples in place of those that there are."""
    have = f"there are {draws.there:,}{_left_out(draws, ', {}')}"
    return (
        f"about {_about(draws.needed(images))} {draws.kind} ({have}) and {_about(samples)} samples "
        f"(instead of {instead_of}) would be enough"
    )


def _left_out(draws: Draws, pattern: str) -> str:
    found = f"without {draws.near_duplicates} training images that have near-duplicates"
    return pattern.format(found) if draws.near_duplicates else ""


def _about(count: float) -> str:
    """Rounded up to two digits."""
    unit = 10 ** max(0, len(str(int(count))) - 2)
    return f"{int(-(-count // unit) * unit):,}"


def _exclusion(control: str, estimates: list[Estimate]) -> Crossing | None:
    """The estimate that excludes `control` by the largest margin, with its threshold; None where none does."""
    separated = [(each, each.calibration.separated().get(control)) for each in estimates]
    sure = [(each, line) for each, line in separated if line is not None and each.margin(line) > 0]
    return max(sure, key=lambda found: found[0].margin(found[1]), default=None)


def _evidence(verb: str, found: list[Crossing]) -> str:
    return "; ".join(_clauses(verb, found))


def _clauses(verb: str, found: list[Crossing]) -> list[str]:
    """The clearest first; a metric with several thresholds is named once, with the one nearest to its value."""
    nearest: dict[str, Crossing] = {}
    for each, line in sorted(found, key=lambda pair: abs(pair[0].margin(pair[1]))):
        nearest.setdefault(each.calibration.name, (each, line))
    return [each.describe(verb, line) for each, line in reversed(nearest.values())]
