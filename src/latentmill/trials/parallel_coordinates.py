"""The sweep as parallel coordinates: a line per trial, through each searched hyperparameter to its criterion."""

import math
from collections.abc import Iterable
from typing import Any

from latentmill.trials.results import Outcome, by_study, csv_text

COLUMNS = ["entry", "trial", "axis", "order", "position", "value", "criterion", "winner"]
Axis = dict[str, Any]  # by trial: its value


def parallel_csv(tried: Iterable[Outcome], winners: Iterable[Outcome]) -> str:
    """One row per finished trial and axis; `position` is in [0, 1] along the axis, which is logarithmic over a decade.

    The last axis is the criterion, with the best trial at 0. Entries with a single trial are left out.
    """
    best = {outcome.planned.fingerprint for outcome in winners}
    rows = []
    for entry, found in by_study(outcome for outcome in tried if outcome.finished).items():
        trials = {outcome.planned.fingerprint: outcome for outcome in found}
        for order, (name, axis) in enumerate(_axes(trials).items() if len(trials) > 1 else ()):
            places = positions(list(axis.values()))
            for (trial, value), position in zip(axis.items(), places, strict=True):
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
                row = {"entry": entry, "trial": trial, "axis": name, "order": order, "position": position}
                criterion = trials[trial].record["criterion"]
                rows.append(row | {"value": text, "criterion": criterion, "winner": trial in best})
    return csv_text(COLUMNS, rows)


def positions(values: list[Any]) -> list[float]:
    """The positions of values along an axis, from 0 to 1; names are evenly spread, sorted."""
    if not all(isinstance(value, int | float) for value in values):
        names = sorted({str(value) for value in values})
        return [names.index(str(value)) / max(1, len(names) - 1) for value in values]
    low, high = min(values), max(values)
    if low > 0 and high / low >= 10:
        return positions([math.log(value) for value in values])
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def _axes(trials: dict[str, Outcome]) -> dict[str, Axis]:
    """The keys whose values differ between the trials, then the criterion."""
    given = {name: settings(outcome) for name, outcome in trials.items()}
    keys = next(iter(given.values()))
    searched = [key for key in keys if len({str(values[key]) for values in given.values()}) > 1]
    axes = {key: {name: values[key] for name, values in given.items()} for key in searched}
    return axes | {"criterion": {name: outcome.record["criterion"] for name, outcome in trials.items()}}


def settings(outcome: Outcome) -> dict[str, Any]:
    """Every hyperparameter of a trial, and its seed."""
    trial = outcome.planned.trial
    return trial.config | (trial.training or {}) | {"seed": trial.seed}
