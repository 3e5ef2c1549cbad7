"""The choice of the champion: of the entries with the best verdicts, the one nearest to the validation images."""

import json
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from latentmill.config import ChampionMetric
from latentmill.export.card import as_text, exported_samples
from latentmill.export.manifest import manifest
from latentmill.export.outcome import ExportOutcome
from latentmill.export.refusal import Refused
from latentmill.files import copy_into, write_json, write_text
from latentmill.runtime.folder import CARD, MANIFEST

LOWER_IS_BETTER = ("frechet_distance", "kernel_distance")
OUTCOMES = ("pass", "inconclusive", "fail")  # the best first

Json = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """An entry that may become the champion."""

    entry: str
    metric: str
    value: float | None  # None: there were too few images to compute the metric
    rules: tuple[str, str]  # their outcomes

    def __str__(self) -> str:
        return f"{self.entry}: {self.chosen}"

    @property
    def chosen(self) -> str:
        """Why it is chosen."""
        rules = ", ".join(f"rule {rule} {outcome}" for rule, outcome in enumerate(self.rules, start=1))
        if self.value is None:
            return f"{rules}, the last of these on the ladder, because there are too few images for {self.metric}"
        return f"{rules}, {self.metric} to validation images {self.value:.4g}"


def ranked(metrics: dict[str, Json], metric: ChampionMetric) -> list[Candidate]:
    """The entries, the best first: by Rule 2, then by Rule 1, then by the metric, then by name.

    Entries without the metric follow those with equal outcomes, the last on the ladder, the order of `metrics`, first.
    """
    found = [_candidate(entry, each, metric) for entry, each in reversed(metrics.items())]
    return sorted(
        found,
        key=lambda each: (
            OUTCOMES.index(each.rules[1]),
            OUTCOMES.index(each.rules[0]),
            _badness(each),
            "" if each.value is None else each.entry,  # sorting is stable
        ),
    )


def appoint(candidate: Candidate, exports: Path, folder: Path) -> None:
    """Copy the candidate's export into an empty folder; the card there says why it is chosen."""
    copy_into(folder, exports / candidate.entry)
    card = json.loads((folder / CARD).read_text(encoding="utf-8")) | {"chosen": candidate.chosen}
    write_json(folder / CARD, card)
    write_text(folder / "card.md", as_text(card))
    write_json(folder / MANIFEST, manifest(folder))


def no_champion(outcomes: list[ExportOutcome]) -> Refused:
    """The refusal of a champion, if no entry was exported."""
    reasons = ["; ".join(filter(None, (f"{each.name}: {each.reason}", each.advice))) for each in outcomes]
    return Refused("no entry could be exported", "; ".join(reasons))


def _badness(candidate: Candidate) -> float:
    if candidate.value is None:
        return inf
    return candidate.value if candidate.metric in LOWER_IS_BETTER else -candidate.value


def _candidate(entry: str, metrics: Json, metric: str) -> Candidate:
    samples = exported_samples(metrics)
    rules = (samples["rule_1"]["status"], samples["rule_2"]["status"])
    return Candidate(entry, metric, samples.get("validation", {}).get(metric), rules)
