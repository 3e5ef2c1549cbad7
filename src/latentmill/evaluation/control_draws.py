"""Draws of controls, and the values of metrics on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from latentmill.evaluation.calibration import Control
from latentmill.evaluation.controls import Controls, with_replacement, without_replacement
from latentmill.evaluation.copy_space import CopySpace
from latentmill.evaluation.metrics import RULES, Metric, all_metrics
from latentmill.evaluation.spaces import FidelitySpace, concatenated
from latentmill.evaluation.verdict import Draws

Values = dict[str, dict[Control, list[float]]]  # by metric and control, one a draw


class ViewedControls:
    """The controls of a rule in a feature space: the features of their populations are computed once."""

    def __init__(self, rule: int, space: FidelitySpace | CopySpace, controls: Controls) -> None:
        """The controls are of this rule, whose metrics compare in this space."""
        self._rule, self._space, self._controls = rule, space, controls.controls
        self._views: dict[str, Any] = {
            name: space.view_population(population) for name, population in controls.populations.items()
        }

    def values(self, draws: Draws, metrics: Mapping[str, Metric], rng: np.random.Generator) -> Values:
        """Of the `metrics`, on all draws of every control."""
        few, many = without_replacement(rng), with_replacement(rng)
        found: Values = {}
        for control in self._controls:
            for turn in range(control.repeats):
                drawn = (control.draw(few, draws.few, turn), control.draw(many, draws.many, turn))
                small, large = (concatenated([self._views[name][rows] for name, rows in parts]) for parts in drawn)
                for name, value in all_metrics(self._rule, small, large, self._space, metrics).values.items():
                    found.setdefault(name, {}).setdefault(control, []).append(value)
        return found


def metrics_of_other_size(rule: int, draws: Draws, others: Draws) -> dict[str, Metric]:
    """The metrics of a rule that use more or fewer images of the one draws than of the `others`."""
    return {
        names: each
        for names, each in RULES[rule].items()
        if each.size(draws.few, draws.many) != each.size(others.few, others.many)
    }
