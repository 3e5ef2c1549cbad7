"""The calibration of each metric on this data: the controls that it separates, and its threshold.

A metric that detects no negative control is uninformative here, however well known it is.
"""

import fnmatch
from dataclasses import dataclass

from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.numbers import MISSING, plain, plus_minus, share
from latentmill.report.verdicts import RULES


@dataclass(frozen=True)
class Point:
    """The value of a metric on one control or model."""

    name: str
    kind: str  # "positive" or "negative" for a control, "model"
    symbol: str  # a letter for a control, its number on the ladder for a model
    value: float | None  # None: it was not measured
    error: float  # deviation between draws of a control, standard error for a model
    threshold: float | None = None  # of a negative control that the metric detects

    @property
    def text(self) -> str:
        return MISSING if self.value is None else plus_minus(self.value, self.error)


@dataclass(frozen=True)
class CalibratedMetric:
    """One of a rule's metrics, on all controls and models."""

    name: str
    space: str
    lower_is_better: bool
    points: list[Point]

    @property
    def title(self) -> str:
        return f"{self.name} in {self.space}"

    @property
    def threshold(self) -> float | None:
        """The value from which the rule fails; None for an uninformative metric."""
        found = [each.threshold for each in self.points if each.threshold is not None]
        return (min if self.lower_is_better else max)(found) if found else None

    @property
    def informative(self) -> bool:
        return self.threshold is not None

    @property
    def limit(self) -> str:
        """The threshold with its sign."""
        if self.threshold is None:
            return MISSING
        return f"{'≥' if self.lower_is_better else '≤'}\N{NO-BREAK SPACE}{plain(self.threshold)}"

    @property
    def negative(self) -> list[Point]:
        return [each for each in self.points if each.kind == "negative"]


@dataclass(frozen=True)
class Rule:
    """The metrics of one rule, with the controls and models that they were computed on."""

    number: str
    title: str
    controls: list[Point]  # without values: the legend of the symbols
    models: list[Point]  # also without values
    metrics: list[CalibratedMetric]  # the informative ones first

    @property
    def negative(self) -> list[Point]:
        return [each for each in self.controls if each.kind == "negative"]


@dataclass(frozen=True)
class Judged:
    """A model, or samples of anyone's generator, that stand beside the controls."""

    name: str
    symbol: str
    metrics: Json  # by space and metric, with value and standard error


def entries(inputs: Inputs) -> list[Judged]:
    """The exported samples of each entry that these controls are for: as many as others have."""
    compared = [entry for entry in inputs.entries if entry.samples == inputs.samples]
    return [Judged(entry.name, str(entry.rank), _exported(entry).get("metrics", {})) for entry in compared]


def rules(calibration: Json, judged: list[Judged]) -> list[Rule]:
    """The rules that were calibrated, with what was judged by them."""
    return [_rule(number, found, judged) for number, found in calibration.get("rules", {}).items()]


def limits(calibration: Json) -> dict[str, str]:
    """By rule: the least damage to real images that fails surely, in words; without a rule that nothing fails.

    Damage whose control no metric detects is named apart.
    """
    found, said = calibration.get("limits"), {}
    detected = {name for metric in _metrics(calibration) for name in metric["detects"]}
    for rule, damages in _damages(found).items() if found else []:
        fails = [words for words, controls in damages if _first(controls, calibration) & detected]
        missed = [words for words, controls in damages if not _first(controls, calibration) & detected]
        if fails:
            rest = f"; no metric detects {_alternatives(missed)} here" if missed else ""
            said[rule] = f"fails for {_alternatives(fails)}, or worse{rest}"
    return said


def _damages(limits: Json) -> dict[str, list[tuple[str, list[str]]]]:
    """By rule: each limit in words, with patterns of the names of its control, the one that is preferred first."""
    blur, copies, noisy = limits["blur"], limits["copies"], limits["noisy_copies"]
    independent, lost = limits["independent"], limits["lost"]
    pixels = f"independent pixels in {share(independent) if independent < 1 else 'all'} of the images"
    mode = f"the loss of {share(lost) if lost < 1 else 'all'} of a class or cluster"
    return {
        "1": [
            (f"a blur of {blur:.2g} px", [f"blurred by {blur:.3g} px", "blurred"]),
            (pixels, ["independent pixels" if independent == 1 else f"{100 * independent:.3g} % independent pixels"]),
            (mode, ["one * dropped" if lost == 1 else f"{100 * lost:.3g} % of one * dropped"]),
        ],
        "2": [
            (f"{share(copies)} training images", [f"{100 * copies:.3g} % training images"]),
            (f"{share(noisy)} training images with noise on them", [f"{100 * noisy:.3g} % training images with noise"]),
        ],
    }


def directions(calibration: Json) -> dict[tuple[str, str], str]:
    """(space, metric) -> "higher" or "lower", whichever is better."""
    return {(each["space"], each["metric"]): each["better"] for each in _metrics(calibration)}


def informative_metrics(calibration: Json) -> set[tuple[str, str]]:
    """(space, metric) of those that detect some control."""
    return {(each["space"], each["metric"]) for each in _metrics(calibration) if each["detects"]}


def _first(patterns: list[str], calibration: Json) -> set[str]:
    """The names of controls that fit the first of `patterns` that any fits."""
    names = [each["name"] for rule in calibration["rules"].values() for each in rule["controls"]]
    return next((set(some) for pattern in patterns if (some := fnmatch.filter(names, pattern))), set())


def _alternatives(words: list[str]) -> str:
    """A, B, or C."""
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])}, or {words[-1]}"


def _metrics(calibration: Json) -> list[Json]:
    return [metric for rule in calibration.get("rules", {}).values() for metric in rule["metrics"]]


def _exported(entry: Entry) -> Json:
    found: Json = entry.metrics["samples"][entry.metrics["exported_prior"]]
    return found


def _rule(number: str, found: Json, judged: list[Judged]) -> Rule:
    controls = [
        Point(each["name"], "positive" if each["positive"] else "negative", chr(ord("A") + index), None, 0)
        for index, each in enumerate(found["controls"])
    ]
    models = [Point(each.name, "model", each.symbol, None, 0) for each in judged]
    metrics = [_metric(each, controls, judged) for each in found["metrics"]]
    ordered = sorted(metrics, key=lambda each: not each.informative)
    return Rule(number, RULES.get(number, ""), controls, models, ordered)


def _metric(found: Json, controls: list[Point], judged: list[Judged]) -> CalibratedMetric:
    points = [_control(each, found) for each in controls]
    for each in judged:
        value = each.metrics.get(found["space"], {}).get(found["metric"], {})
        points.append(Point(each.name, "model", each.symbol, value.get("value"), value.get("standard_error", 0)))
    return CalibratedMetric(found["metric"], found["space"], found["better"] == "lower", points)


def _control(control: Point, found: Json) -> Point:
    value = found["values"].get(control.name, {})
    threshold = found["detects"].get(control.name)
    return Point(control.name, control.kind, control.symbol, value.get("mean"), value.get("deviation", 0), threshold)
