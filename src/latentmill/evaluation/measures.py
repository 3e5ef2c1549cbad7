"""The measures of both rules, each as one number of a set of samples in one feature space."""

from collections.abc import Callable
from dataclasses import dataclass

from latentmill.evaluation import copies, fidelity
from latentmill.evaluation.fidelity import TooFew
from latentmill.evaluation.spaces import Space, View

TOLD_APART_ROWS = 300  # of each set: a classifier's time grows with their square, what it tells much slower
HIGHER_IS_BETTER = frozenset(
    {"precision", "recall", "density", "coverage", "Vendi ratio", "rarest group", "C_T", "authenticity"}
)
# Of the images of a set: never known to less than one image, though all draws of a control may agree.
SHARES = frozenset({"precision", "near copies", "authenticity"})
OF_GROUPS = frozenset({"rarest group", "group distance"})  # they see nothing but the shares of the groups


@dataclass(frozen=True)
class Measured:
    """Of one set of samples in one space."""

    values: dict[str, float]  # by measure
    silent: list[str]  # what gave no value, and why


def measured(rule: int, samples: View, space: Space) -> Measured:
    """All measures of rule 1 or 2. One that needs more images than there are gives none, and says so."""
    values: dict[str, float] = {}
    silent = []
    for names, measure in RULES[rule].items():
        try:
            values |= dict(zip(names.split(", "), measure(samples, space), strict=True))
        except TooFew as few:
            silent.append(f"{names}: {few}")
    return Measured(values, silent)


def _balls(samples: View, space: Space) -> tuple[float, ...]:
    found = fidelity.prdc(samples.features, space.some_test)
    return found.precision, found.recall, found.density, found.coverage


def _frechet(samples: View, space: Space) -> tuple[float]:
    return (fidelity.frechet_distance(samples.features, space.some_test),)


def _kernel(samples: View, space: Space) -> tuple[float]:
    return (fidelity.kernel_distance(samples.features, space.some_test),)


def _told_apart(samples: View, space: Space) -> tuple[float]:
    ours, theirs = samples.features[:TOLD_APART_ROWS], space.some_test[:TOLD_APART_ROWS]
    return (fidelity.classifier_accuracy(ours, theirs, seed=0),)


def _vendi_ratio(samples: View, space: Space) -> tuple[float]:
    """The effective number of different samples over that of as many test images, which it would grow with."""
    count = min(len(samples), len(space.some_test))
    ours, theirs = (rows[:count] for rows in (samples.features, space.some_test))
    return (fidelity.vendi_score(ours, space.bandwidth) / fidelity.vendi_score(theirs, space.bandwidth),)


def _rarest_group(samples: View, space: Space) -> tuple[float]:
    return (fidelity.rarest_group(samples.groups, space.groups),)


def _group_distance(samples: View, space: Space) -> tuple[float]:
    groups = int(max(samples.groups.max(), space.groups.max())) + 1
    return (fidelity.class_distance(samples.groups, space.groups, groups),)


def _near_copies(samples: View, space: Space) -> tuple[float]:
    return (float(copies.are_near_copies(samples.nearest, space.near).mean()),)


def _c_t(samples: View, space: Space) -> tuple[float]:
    return (copies.c_t(samples.nearest, samples.cells, space.test.nearest, space.test.cells),)


def _authenticity(samples: View, space: Space) -> tuple[float]:
    return (copies.authenticity(samples.nearest, space.among_themselves),)


def _likelihood_gap(samples: View, space: Space) -> tuple[float]:
    return (copies.likelihood_gap(samples.features, space.some_train, space.some_test),)


RULES: dict[int, dict[str, Callable[[View, Space], tuple[float, ...]]]] = {
    1: {
        "precision, recall, density, coverage": _balls,
        "Fréchet distance": _frechet,
        "kernel distance": _kernel,
        "told apart": _told_apart,
        "Vendi ratio": _vendi_ratio,
        "rarest group": _rarest_group,
        "group distance": _group_distance,
    },
    2: {
        "near copies": _near_copies,
        "C_T": _c_t,
        "authenticity": _authenticity,
        "likelihood gap": _likelihood_gap,
    },
}
