"""The metrics of both rules, each as one number of a set of samples in one feature space."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latentmill.evaluation import copies, fidelity
from latentmill.evaluation.copy_space import AlignedSpace, CopySpace, CopyView
from latentmill.evaluation.spaces import FidelitySpace, View
from latentmill.features import distances
from latentmill.features.distances import TooFew

ROWS = 500  # samples at a time, for metrics whose time grows with their square, or that depend on their number
C2ST_ROWS = 300  # of each set: a classifier's time grows with their square, its power much more slowly
HIGHER_IS_BETTER = frozenset(
    {"precision", "recall", "density", "coverage", "Vendi ratio", "rarest group", "C_T", "authenticity"}
)
# Of the images of a set: never known to less than one image, though all draws of a control may agree.
SHARES = frozenset({"precision", "near copies", "exact copies", "authenticity"})
# A dropped mode changes the others too, but less than images do that are a little off, so they do not detect it.
DETECTS_LOST_MODES = frozenset({"rarest group"})


@dataclass(frozen=True)
class Metric:
    """Computes one value or more of samples in a space."""

    compute: Callable[[Any, Any], tuple[float, ...]]
    rows: int | None = None  # samples that it uses at a time; None: as many as there are

    def size(self, few: int, many: int) -> int:
        """The number of samples that it uses: of `few` where time grows faster than their number, else of `many`."""
        return many if self.rows is None else min(self.rows, few)


@dataclass(frozen=True)
class MetricValues:
    """Of one set of samples in one space."""

    values: dict[str, float]  # by metric
    unavailable: list[str]  # metrics without a value, each with the reason


def all_metrics(
    rule: int,
    few: View | CopyView,
    many: View | CopyView,
    space: FidelitySpace | CopySpace,
    metrics: Mapping[str, Metric] | None = None,
) -> MetricValues:
    """Metrics of rule 1 or 2, these or all in the space: of `few` samples where time grows with their square, or all.

    A metric that needs more images than there are is unavailable.
    """
    values: dict[str, float] = {}
    unavailable = []
    for names, metric in (metrics_in(space, rule) if metrics is None else metrics).items():
        try:
            values |= named_values(names, metric, many if metric.rows is None else few[: metric.rows], space)
        except TooFew as error:
            unavailable.append(f"{names}: {error}")
    return MetricValues(values, unavailable)


def named_values(
    names: str, metric: Metric, samples: View | CopyView, space: FidelitySpace | CopySpace
) -> dict[str, float]:
    """The values of one metric, by its `names` in `RULES`, of all of the samples.

    Raises:
        TooFew: it needs more images.
    """
    return dict(zip(names.split(", "), metric.compute(samples, space), strict=True))


def least_deviation(metric: str, size: int, pool: int) -> float:
    """The change of a share by one image, of a draw or of the pool: rarer images may be missing there by chance."""
    return 1 / min(size, pool) if metric in SHARES else 0.0


def _balls(samples: View, space: FidelitySpace) -> tuple[float, ...]:
    found = fidelity.prdc(samples.features, space.some_test, real_radii=space.radii)
    return found.precision, found.recall, found.density, found.coverage


def _frechet(samples: View, space: FidelitySpace) -> tuple[float]:
    return (distances.frechet_distance(samples.features, space.some_test),)


def _kernel(samples: View, space: FidelitySpace) -> tuple[float]:
    return (distances.kernel_distance(samples.features, space.some_test),)


def _c2st(samples: View, space: FidelitySpace) -> tuple[float]:
    return (fidelity.c2st_accuracy(samples.features, space.some_test[:C2ST_ROWS], seed=0),)


def _vendi_ratio(samples: View, space: FidelitySpace) -> tuple[float]:
    """The Vendi score of the samples over that of as many test images, because it grows with their number."""
    count = min(len(samples), len(space.some_test))
    return (fidelity.vendi_score(samples.features[:count], space.bandwidth) / space.test_vendi_score(count),)


def _rarest_group(samples: View, space: FidelitySpace) -> tuple[float]:
    return (fidelity.rarest_group(samples.groups, space.real_groups),)


def _group_distance(samples: View, space: FidelitySpace) -> tuple[float]:
    groups = int(max(samples.groups.max(), space.real_groups.max())) + 1
    return (fidelity.class_distance(samples.groups, space.real_groups, groups),)


def _near_copies(samples: CopyView, space: CopySpace) -> tuple[float]:
    return (float(copies.are_near_copies(samples.nearest, space.near).mean()),)


def _exact_copies(samples: CopyView, space: CopySpace) -> tuple[float]:
    return (float(copies.are_exact_copies(samples.nearest, space.exact).mean()),)


def _c_t(samples: CopyView, space: CopySpace) -> tuple[float]:
    return (copies.c_t(samples.nearest, samples.cells, space.test.nearest, space.test.cells),)


def _authenticity(samples: CopyView, space: CopySpace) -> tuple[float]:
    return (copies.authenticity(samples.nearest, samples.own),)


def _likelihood_gap(samples: CopyView, space: CopySpace) -> tuple[float]:
    return (copies.likelihood_gap(samples.features, space.some_train, space.some_test),)


RULES: dict[int, dict[str, Metric]] = {
    1: {
        "precision, recall, density, coverage": Metric(_balls, ROWS),
        "Fréchet distance": Metric(_frechet, ROWS),
        "kernel distance": Metric(_kernel, ROWS),
        "C2ST accuracy": Metric(_c2st, C2ST_ROWS),
        "Vendi ratio": Metric(_vendi_ratio, ROWS),
        "rarest group": Metric(_rarest_group),
        "group distance": Metric(_group_distance),
    },
    2: {
        "near copies": Metric(_near_copies),
        "exact copies": Metric(_exact_copies),
        "C_T": Metric(_c_t),
        "authenticity": Metric(_authenticity),
        "likelihood gap": Metric(_likelihood_gap, ROWS),
    },
}


def metrics_in(space: FidelitySpace | CopySpace, rule: int) -> dict[str, Metric]:
    """Those of rule 1 or 2 that are computed in a space."""
    return {"near copies": RULES[2]["near copies"]} if isinstance(space, AlignedSpace) else RULES[rule]
