"""Where real images, each control and each model stand under a measure: the geometry of a strip of marks.

Every strip has the same axis, whatever its measure: 0 is the first control that keeps the rule, 1 the threshold, and
worse is to the right. Beyond that the axis is compressed by asinh, because a broken model may be a hundred thresholds
away while all that matters happens near the first. x is in percent of the width, y in pixels.
"""

from dataclasses import dataclass
from math import asinh

from latentmill.report.calibration import Measure, Rule, Seen

STRETCH = 2.5  # how much of the width the part before the threshold gets
LOWEST, HIGHEST = -1.5, 60.0  # thresholds: what lies beyond stands at the edge
EDGE = 4.0  # percent left free at either side
WIDTH, LEVEL = 3.6, 19.0  # of a mark: percent and pixels
LANE = 12.0  # pixels above and below the marks of a lane


@dataclass(frozen=True)
class Mark:
    """A control or a model on a strip."""

    seen: Seen
    x: float
    y: float
    left: float  # its error, to either side
    right: float


@dataclass(frozen=True)
class Strip:
    """One measure."""

    measure: Measure
    marks: list[Mark]
    middle: float  # between the controls, above, and the models
    height: float

    @property
    def label(self) -> str:
        """The picture in words."""
        limit = "blind: no say" if self.measure.blind else f"broken {self.measure.limit}"
        values = ", ".join(f"{mark.seen.name} {mark.seen.text}" for mark in self.marks)
        return f"{self.measure.title}, {limit}. {values}"


@dataclass(frozen=True)
class Axis:
    """The part of the common axis that a rule's strips need."""

    low: float
    high: float

    def x(self, thresholds: float) -> float:
        low, high = _bent(self.low), _bent(self.high)
        share = (_bent(min(max(thresholds, self.low), self.high)) - low) / (high - low)
        return EDGE + (100 - 2 * EDGE) * share


def axis(rule: Rule) -> Axis:
    """From the best to the worst of what was seen, the threshold always within."""
    placed = [_thresholds(measure, each.value) for measure in rule.measures for each in _measured(measure)]
    return Axis(max(LOWEST, min([-0.5, *placed])), min(HIGHEST, max([1.5, *placed])))


def strips(rule: Rule, along: Axis) -> list[Strip]:
    """One a measure, on a common axis."""
    return [_strip(measure, along) for measure in rule.measures]


def _strip(measure: Measure, along: Axis) -> Strip:
    controls = _lane([each for each in _measured(measure) if each.kind != "model"], measure, along, LANE)
    middle = max((mark.y for mark in controls), default=0) + LANE
    models = _lane([each for each in _measured(measure) if each.kind == "model"], measure, along, middle + LANE)
    return Strip(measure, controls + models, middle, max((mark.y for mark in models), default=middle) + LANE)


def _lane(seen: list[Seen], measure: Measure, along: Axis, top: float) -> list[Mark]:
    """From left to right, each on the first level where it hides no other."""
    marks: list[Mark] = []
    ends: list[float] = []  # of each level
    for each in sorted(seen, key=lambda each: _thresholds(measure, each.value)):
        x, *sides = (along.x(_thresholds(measure, value)) for value in _around(each))
        level = next((index for index, end in enumerate(ends) if x - end >= WIDTH), len(ends))
        ends[level : level + 1] = [x]
        marks.append(Mark(each, x, top + LEVEL * level, min(sides), max(sides)))
    return marks


def _around(each: Seen) -> tuple[float, float, float]:
    value = each.value or 0.0
    return value, value - each.error, value + each.error


def _measured(measure: Measure) -> list[Seen]:
    return [each for each in measure.seen if each.value is not None]


def _thresholds(measure: Measure, value: float | None) -> float:
    """How far from real images, in units of how far the threshold is from them; worse is more."""
    kept = [each.value for each in measure.seen if each.kind == "keeps" and each.value is not None]
    real = kept[0] if kept else 0.0
    worse = 1 if measure.lower_is_better else -1
    return worse * ((value or 0.0) - real) / _unit(measure, real)


def _unit(measure: Measure, real: float) -> float:
    """A blind measure has no threshold: there the farthest control is 1."""
    controls = [each.value for each in measure.seen if each.kind != "model" and each.value is not None]
    reach = controls if measure.threshold is None else [measure.threshold]
    return max((abs(value - real) for value in reach), default=0) or 1.0


def _bent(thresholds: float) -> float:
    return asinh(STRETCH * thresholds)
