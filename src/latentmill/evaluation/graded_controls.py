"""Controls by how strong the damage to real images is, and their names: from some of it on to the whole.

The whole damage has a name of its own. Less of it is a share of images that are damaged, or of a mode that is missing.
"""

from functools import partial

import numpy as np

from latentmill.evaluation.calibration import (
    LEAST_REPEATS_LOST,
    REPEATS_FAILING,
    REPEATS_LOST,
    REPEATS_MIXED,
    Choice,
    Control,
    Parts,
)
from latentmill.evaluation.corruptions import share_count

REAL, HELD_OUT = "real images", "held-out images"  # undamaged ones, of rule 1 and of rule 2
BLURRED, INDEPENDENT, BLENDS, COPIES = "blurred", "independent pixels", "blends of two", "training images"


def blurred_by(pixels: float) -> str:
    """The name of images blurred by so many pixels."""
    return f"{BLURRED} by {pixels:.3g} px"


def without_one(mode: str, share: float = 1.0) -> str:
    """The name of the control without that share of one `mode`, such as a class; those of another space are others."""
    return f"{f'{100 * share:.3g} % of ' if share < 1 else ''}one {mode} dropped"


def is_dropped_mode(control: str) -> bool:
    """Whether it is the name of a control without one mode, or without a share of it."""
    return control.endswith(" dropped")


def drawn(population: str, size: int, positive: bool = False, repeats: int = REPEATS_FAILING) -> Control:
    """Of one population, of that `size`, whose name is the control's."""
    return Control(population, positive, repeats, 1, lambda choose, count, turn: [(population, choose(size, count))])


def mixed(share: float, bad: tuple[str, int], new: tuple[str, int], repeats: int = REPEATS_MIXED) -> Control:
    """That share of one population among another, both with their sizes."""
    (bad_name, bad_size), (new_name, new_size) = bad, new

    def draw(choose: Choice, count: int, turn: int) -> Parts:
        replaced = share_count(count, share)
        return [(bad_name, choose(bad_size, replaced)), (new_name, choose(new_size, count - replaced))]

    return Control(f"{100 * share:.3g} % {bad_name}", False, repeats, 1, draw)


def dropped_mode(groups: np.ndarray, mode: str, share: float = 1.0) -> Control:
    """That share of one of the `groups` is missing, each in turn, because the absence of some is harder to detect."""
    names = np.unique(groups)
    each = max(REPEATS_LOST, round(LEAST_REPEATS_LOST / len(names)))
    draw = partial(_draw_without, groups, share)
    return Control(without_one(mode, share), False, each * len(names), len(names), draw)


def _draw_without(groups: np.ndarray, share: float, choose: Choice, count: int, turn: int) -> Parts:
    """`count` real images in `groups` (N), of which one, by the number of the draw, has lost that share of its own."""
    names = np.unique(groups)
    inside = groups == names[turn % len(names)]
    members = np.flatnonzero(inside)
    left = np.concatenate([np.flatnonzero(~inside), members[: round((1 - share) * len(members))]])
    return [(REAL, left[choose(len(left), count)])]
