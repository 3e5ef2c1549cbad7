"""The positions of controls and models on the scale of a metric: the geometry of a strip of marks.

Every strip has the same axis, whatever its metric: 0 is the first positive control, 1 the threshold, and worse is to
the right. The axis is compressed by asinh, because a bad model may be a hundred thresholds away while the interesting
part is near the first. x is in percent of the width, y in pixels.
"""

from dataclasses import dataclass
from math import asinh

from latentmill.report.calibration import CalibratedMetric, Point, Rule

STRETCH = 2.5  # how much of the width the part before the threshold gets
LOWEST, HIGHEST = -1.5, 60.0  # thresholds: values beyond are drawn at the edge
EDGE = 4.0  # percent left free at either side
WIDTH, LEVEL = 3.6, 19.0  # of a mark: percent and pixels
LANE = 12.0  # pixels above and below the marks of a lane


@dataclass(frozen=True)
class PlacedMark:
    """A control or a model on a strip."""

    point: Point
    x: float
    y: float
    left: float  # its error, to either side
    right: float


@dataclass(frozen=True)
class Strip:
    """The marks of one metric."""

    metric: CalibratedMetric
    marks: list[PlacedMark]
    middle: float  # between the controls, above, and the models
    height: float

    @property
    def label(self) -> str:
        """The picture in words."""
        limit = f"fails {self.metric.limit}" if self.metric.informative else "uninformative"
        values = ", ".join(f"{mark.point.name} {mark.point.text}" for mark in self.marks)
        return f"{self.metric.title}, {limit}. {values}"


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
    """From the best to the worst value, with the threshold always included."""
    placed = [_thresholds(metric, each.value) for metric in rule.metrics for each in _measured(metric)]
    return Axis(max(LOWEST, min([-0.5, *placed])), min(HIGHEST, max([1.5, *placed])))


def strips(rule: Rule, along: Axis) -> list[Strip]:
    """One strip for each metric, on a common axis."""
    return [_strip(metric, along) for metric in rule.metrics]


def _strip(metric: CalibratedMetric, along: Axis) -> Strip:
    controls = _lane([each for each in _measured(metric) if each.kind != "model"], metric, along, LANE)
    middle = max((mark.y for mark in controls), default=0) + LANE
    models = _lane([each for each in _measured(metric) if each.kind == "model"], metric, along, middle + LANE)
    return Strip(metric, controls + models, middle, max((mark.y for mark in models), default=middle) + LANE)


def _lane(points: list[Point], metric: CalibratedMetric, along: Axis, top: float) -> list[PlacedMark]:
    """From left to right, each on the first level where it hides no other."""
    marks: list[PlacedMark] = []
    ends: list[float] = []  # of each level
    for each in sorted(points, key=lambda each: _thresholds(metric, each.value)):
        x, *sides = (along.x(_thresholds(metric, value)) for value in _interval(each))
        level = next((index for index, end in enumerate(ends) if x - end >= WIDTH), len(ends))
        ends[level : level + 1] = [x]
        marks.append(PlacedMark(each, x, top + LEVEL * level, min(sides), max(sides)))
    return marks


def _interval(point: Point) -> tuple[float, float, float]:
    """The value, and its ends."""
    value = point.value or 0.0
    return value, value - point.error, value + point.error


def _measured(metric: CalibratedMetric) -> list[Point]:
    return [each for each in metric.points if each.value is not None]


def _thresholds(metric: CalibratedMetric, value: float | None) -> float:
    """The distance from real images, with that of the threshold as unit; worse is more."""
    positive = [each.value for each in metric.points if each.kind == "positive" and each.value is not None]
    real = positive[0] if positive else 0.0
    worse = 1 if metric.lower_is_better else -1
    return worse * ((value or 0.0) - real) / _unit(metric, real)


def _unit(metric: CalibratedMetric, real: float) -> float:
    """The distance of the threshold, or of the farthest control if the metric is uninformative."""
    controls = [each.value for each in metric.points if each.kind != "model" and each.value is not None]
    reach = controls if metric.threshold is None else [metric.threshold]
    return max((abs(value - real) for value in reach), default=0) or 1.0


def _bent(thresholds: float) -> float:
    return asinh(STRETCH * thresholds)
