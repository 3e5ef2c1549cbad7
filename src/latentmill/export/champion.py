"""Which entry goes out as the champion: of those that keep both rules, the one nearest to the validation images."""

from dataclasses import dataclass
from typing import Any

from latentmill.config import ChampionMetric
from latentmill.errors import InputError
from latentmill.export.card import exported_samples

LOWER_IS_BETTER = ("frechet_distance", "kernel_distance")
STATUSES = ("holds", "cannot tell", "broken")  # the better first

Json = dict[str, Any]


@dataclass(frozen=True)
class Champion:
    """The entry that won."""

    entry: str
    metric: str
    value: float
    rules: tuple[str, str]  # the verdicts

    def __str__(self) -> str:
        said = f"rule 1 {self.rules[0]}, rule 2 {self.rules[1]}, {self.metric} to validation images {self.value:.4g}"
        return f"{self.entry}: {said}"


def champion(metrics: dict[str, Json], metric: ChampionMetric, allow_broken: list[str]) -> Champion:
    """The best of the entries: by Rule 2, then by Rule 1, then by the metric, then by name.

    Where no entry keeps both rules, the best of the others is taken, and its verdicts say so; one that breaks Rule 2
    only where it is allowed to be exported at all.

    Raises:
        InputError: no entry may be exported, or none has the metric.
    """
    found = [_candidate(entry, exported_samples(each), metric) for entry, each in metrics.items()]
    ranked = sorted(
        (each for each in found if each and (each.rules[1] != "broken" or each.entry in allow_broken)),
        key=lambda each: (
            STATUSES.index(each.rules[1]),
            STATUSES.index(each.rules[0]),
            each.value if metric in LOWER_IS_BETTER else -each.value,
            each.entry,
        ),
    )
    if not ranked:
        rule = f"a champion must keep Rule 2 and have samples enough for {metric}"
        raise InputError(f"{rule}, but none of {', '.join(metrics)} does")
    return ranked[0]


def _candidate(entry: str, samples: Json, metric: str) -> Champion | None:
    value = samples["validation"].get(metric)
    rules = (samples["rule_1"]["status"], samples["rule_2"]["status"])
    return None if value is None else Champion(entry, metric, value, rules)
