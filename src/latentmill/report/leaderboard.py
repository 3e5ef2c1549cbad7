"""The leaderboard: a row for each entry and prior, sortable. What a model cannot do reads "—"."""

from dataclasses import dataclass
from functools import partial

from latentmill.export.outcome import ExportOutcome
from latentmill.report.calibration import directions, informative_metrics
from latentmill.report.captions import prior_name
from latentmill.report.columns import FIXED, Column, Group, Shown, likelihoods
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.numbers import MISSING, count, plus_minus
from latentmill.report.verdicts import ICONS, RANKS, RULES, limited_by, listed, verdicts


@dataclass(frozen=True)
class Cell:
    """A cell of the table."""

    text: str
    key: float | str  # empty: sorted last in both directions


@dataclass(frozen=True)
class Row:
    """An entry under one prior."""

    rank: int
    name: str
    prior: str
    status: str  # exported, refused or failed; empty for priors that are not exported
    champion: bool
    cells: list[list[Cell]]  # by group


def groups(inputs: Inputs) -> list[Group]:
    """All columns; those that no entry fills are left out."""
    found = [
        Group("Verdicts", [*map(_verdict, RULES), Column("limited by", "under Rule 1", "", _limit)]),
        *_metric_groups(inputs),
        likelihoods(sample_spaces(inputs.entries)),
        *FIXED,
    ]
    kept = [Group(group.title, _filled(group.columns, inputs.entries), group.shown) for group in found]
    return [group for group in kept if group.columns]


def rows(inputs: Inputs, columns: list[Group]) -> list[Row]:
    """In the order of the ladder."""
    return [
        _row(entry, prior, columns, inputs.champion) for entry in inputs.entries for prior in entry.metrics["samples"]
    ]


def sample_spaces(entries: list[Entry]) -> list[str]:
    """The sample spaces of the likelihoods. Numbers compare only within one."""
    found = [entry.metrics["likelihood"]["sample_space"] for entry in entries if "likelihood" in entry.metrics]
    return list(dict.fromkeys(found))


def other_samples(inputs: Inputs) -> str:
    """How many samples were drawn of entries with a number of their own, in words; empty where there are none."""
    names: dict[int, list[str]] = {}
    for entry in inputs.entries:
        if entry.samples != inputs.samples:
            names.setdefault(entry.samples, []).append(entry.name)
    return ", ".join(f"{count(number)} of {listed(each)}" for number, each in names.items())


def _row(entry: Entry, prior: str, columns: list[Group], champion: ExportOutcome) -> Row:
    cells = [[_cell(column, entry.metrics, prior) for column in group.columns] for group in columns]
    exported = prior == entry.metrics["exported_prior"]
    status = entry.outcome.status if exported else ""
    is_champion = exported and champion.card.get("entry") == entry.name
    return Row(entry.rank, entry.name, prior_name(prior), status, is_champion, cells)


def _cell(column: Column, metrics: Json, prior: str) -> Cell:
    try:
        text, key = column.cell(metrics, metrics["samples"][prior])
    except KeyError:
        return Cell(MISSING, "")
    return Cell(text, key)


def _filled(columns: list[Column], entries: list[Entry]) -> list[Column]:
    rows = [(entry.metrics, prior) for entry in entries for prior in entry.metrics["samples"]]
    return [column for column in columns if any(_cell(column, *row).text != MISSING for row in rows)]


def _verdict(rule: str) -> Column:
    def cell(metrics: Json, samples: Json) -> Shown:
        status = verdicts(samples)[list(RULES).index(rule)].status
        return f"{ICONS.get(status, '?')} {status}", RANKS.get(status, 1)

    return Column(f"Rule {rule}", "", "", cell)


def _limit(metrics: Json, samples: Json) -> Shown:
    found = limited_by(metrics, samples) or MISSING
    return found, "" if found == MISSING else found


def _metric_groups(inputs: Inputs) -> list[Group]:
    """A group for each feature space. The one with the most informative metrics is shown at first."""
    better, informative = directions(inputs.calibration), informative_metrics(inputs.calibration)
    spaces: dict[str, dict[str, None]] = {}
    for samples in (found for entry in inputs.entries for found in entry.metrics["samples"].values()):
        for space, metrics in samples.get("metrics", {}).items():
            spaces.setdefault(space, {}).update(dict.fromkeys(metrics))
    first = max(spaces, key=lambda space: sum((space, name) in informative for name in spaces[space]), default="")
    return [
        Group(
            f"Metrics in {space}",
            [Column(name, "", better.get((space, name), ""), partial(_metric, space, name)) for name in names],
            space == first,
        )
        for space, names in spaces.items()
    ]


def _metric(space: str, name: str, metrics: Json, samples: Json) -> Shown:
    found = samples["metrics"][space][name]
    return plus_minus(found["value"], found.get("standard_error")), found["value"]
