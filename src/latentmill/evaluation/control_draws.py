"""Draws of controls, and the values of metrics on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latentmill.evaluation.calibration import Control
from latentmill.evaluation.controls import Controls, Population, with_replacement, without_replacement
from latentmill.evaluation.copy_space import CopySpace
from latentmill.evaluation.metrics import RULES, Metric, all_metrics
from latentmill.evaluation.spaces import FidelitySpace, concatenated
from latentmill.evaluation.verdict import Draws

Values = dict[str, dict[Control, list[float]]]  # by metric and control, one a draw


class ViewedControls:
    """The controls of a rule in a feature space: the features of their populations are computed once."""

    def __init__(
        self, rule: int, space: FidelitySpace | CopySpace, controls: Controls, known: Mapping[str, Any] | None = None
    ) -> None:
        """The controls are of this rule, whose metrics compare in this space; `known` are views of populations."""
        self.space, self._rule, self._space, self._controls = space.name, rule, space, controls.controls
        missing = {name: each for name, each in controls.populations.items() if name not in (known or {})}
        self._views = {**(known or {}), **{name: space.view_population(each) for name, each in missing.items()}}

    def with_populations(self, more: Mapping[str, Population]) -> "ViewedControls":
        """No controls, and the views of these populations and of `more` where there is none of that name."""
        return ViewedControls(self._rule, self._space, Controls(dict(more), []), self._views)

    def values(
        self,
        draws: Draws,
        metrics: Mapping[str, Metric],
        rng: np.random.Generator,
        controls: Sequence[Control] | None = None,
    ) -> Values:
        """Of the `metrics`, on all draws of every control, or of these."""
        few, many = without_replacement(rng), with_replacement(rng)
        found: Values = {}
        for control in self._controls if controls is None else controls:
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
