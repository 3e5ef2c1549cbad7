"""The measures of both rules, each as one number of a set of samples in one feature space."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from latentmill.evaluation import copies, fidelity
from latentmill.evaluation.fidelity import TooFew
from latentmill.evaluation.spaces import CopySpace, CopyView, Space, View

ROWS = 500  # samples at a time, for measures whose time grows with their square, or that depend on their number
TOLD_APART_ROWS = 300  # of each set: a classifier's time grows with their square, what it tells much slower
HIGHER_IS_BETTER = frozenset(
    {"precision", "recall", "density", "coverage", "Vendi ratio", "rarest group", "C_T", "authenticity"}
)
# Of the images of a set: never known to less than one image, though all draws of a control may agree.
SHARES = frozenset({"precision", "near copies", "exact copies", "authenticity"})
# A lost mode changes the others too, but less than images do that are a little off: what differs so little is no loss.
FINDS_LOST_MODES = frozenset({"rarest group"})


@dataclass(frozen=True)
class Measure:
    """What gives one value or more of samples in a space."""

    of: Callable[[Any, Any], tuple[float, ...]]
    rows: int | None = None  # samples that it uses at a time; None: as many as there are

    def size(self, few: int, many: int) -> int:
        """How many samples it uses, of a few where time grows faster than their number, else of many."""
        return many if self.rows is None else min(self.rows, few)


@dataclass(frozen=True)
class Measured:
    """Of one set of samples in one space."""

    values: dict[str, float]  # by measure
    silent: list[str]  # what gave no value, and why


def measured(rule: int, few: View | CopyView, many: View | CopyView, space: Space | CopySpace) -> Measured:
    """All measures of rule 1 or 2: of `few` samples where time grows faster than their number, else of `many`.

    One that needs more images than there are gives none, and says so.
    """
    values: dict[str, float] = {}
    silent = []
    for names, measure in RULES[rule].items():
        try:
            values |= named(names, measure, many if measure.rows is None else few[: measure.rows], space)
        except TooFew as error:
            silent.append(f"{names}: {error}")
    return Measured(values, silent)


def named(names: str, measure: Measure, samples: View | CopyView, space: Space | CopySpace) -> dict[str, float]:
    """The values of one measure, as it is called in `RULES`, of all of the samples.

    Raises:
        TooFew: it needs more images.
    """
    return dict(zip(names.split(", "), measure.of(samples, space), strict=True))


def _balls(samples: View, space: Space) -> tuple[float, ...]:
    found = fidelity.prdc(samples.features, space.some_test, real_radii=space.radii)
    return found.precision, found.recall, found.density, found.coverage


def _frechet(samples: View, space: Space) -> tuple[float]:
    return (fidelity.frechet_distance(samples.features, space.some_test),)


def _kernel(samples: View, space: Space) -> tuple[float]:
    return (fidelity.kernel_distance(samples.features, space.some_test),)


def _told_apart(samples: View, space: Space) -> tuple[float]:
    return (fidelity.classifier_accuracy(samples.features, space.some_test[:TOLD_APART_ROWS], seed=0),)


def _vendi_ratio(samples: View, space: Space) -> tuple[float]:
    """The effective number of different samples over that of as many test images, which it would grow with."""
    count = min(len(samples), len(space.some_test))
    return (fidelity.vendi_score(samples.features[:count], space.bandwidth) / space.test_vendi_score(count),)


def _rarest_group(samples: View, space: Space) -> tuple[float]:
    return (fidelity.rarest_group(samples.groups, space.real_groups),)


def _group_distance(samples: View, space: Space) -> tuple[float]:
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


RULES: dict[int, dict[str, Measure]] = {
    1: {
        "precision, recall, density, coverage": Measure(_balls, ROWS),
        "Fréchet distance": Measure(_frechet, ROWS),
        "kernel distance": Measure(_kernel, ROWS),
        "told apart": Measure(_told_apart, TOLD_APART_ROWS),
        "Vendi ratio": Measure(_vendi_ratio, ROWS),
        "rarest group": Measure(_rarest_group),
        "group distance": Measure(_group_distance),
    },
    2: {
        "near copies": Measure(_near_copies),
        "exact copies": Measure(_exact_copies),
        "C_T": Measure(_c_t),
        "authenticity": Measure(_authenticity),
        "likelihood gap": Measure(_likelihood_gap, ROWS),
    },
}
