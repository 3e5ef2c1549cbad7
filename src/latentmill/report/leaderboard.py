"""The leaderboard: a row for each entry and way to sample, sortable. What a model cannot do reads "—"."""

from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase

from latentmill.export.outcome import Outcome
from latentmill.report.calibration import directions, having_say
from latentmill.report.captions import route_name
from latentmill.report.columns import FIXED, Column, Group, Shown
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.numbers import MISSING, plus_minus
from latentmill.report.verdicts import ICONS, RULES, verdicts

RANKS = {"holds": 0, "cannot tell": 1, "broken": 2}


@dataclass(frozen=True)
class Cell:
    """What stands in one place of the table."""

    text: str
    key: float | str  # empty: sorted last, whichever way
    mark: str  # the letter of its sample space, where there are several


@dataclass(frozen=True)
class Row:
    """An entry under one way to sample."""

    rank: int
    name: str
    route: str
    status: str  # exported or refused; empty for the other ways to sample
    champion: bool
    cells: list[list[Cell]]  # by group


def groups(inputs: Inputs) -> list[Group]:
    """All columns; those that no entry fills are left out."""
    found = [Group("Verdicts", [_verdict(rule) for rule in RULES]), *_measures(inputs), *FIXED]
    kept = [Group(group.title, _filled(group.columns, inputs.entries), group.shown) for group in found]
    return [group for group in kept if group.columns]


def rows(inputs: Inputs, columns: list[Group]) -> list[Row]:
    """In the order of the ladder."""
    spaces = sample_spaces(inputs.entries)
    return [
        _row(entry, route, columns, spaces, inputs.champion)
        for entry in inputs.entries
        for route in entry.metrics["samples"]
    ]


def sample_spaces(entries: list[Entry]) -> dict[str, str]:
    """Each sample space of the likelihoods with its mark; the marks are empty where one space makes all compare."""
    found = [entry.metrics["likelihood"]["sample_space"] for entry in entries if "likelihood" in entry.metrics]
    spaces = list(dict.fromkeys(found))
    return dict(zip(spaces, ascii_lowercase if len(spaces) > 1 else [""] * len(spaces), strict=False))


def _row(entry: Entry, route: str, columns: list[Group], spaces: dict[str, str], champion: Outcome) -> Row:
    mark = spaces.get(entry.metrics.get("likelihood", {}).get("sample_space"), "")
    cells = [[_cell(column, entry.metrics, route, mark) for column in group.columns] for group in columns]
    main = route == entry.metrics["exported_prior"]
    status = entry.outcome.status if main else ""
    return Row(
        entry.rank, entry.name, route_name(route), status, main and champion.card.get("entry") == entry.name, cells
    )


def _cell(column: Column, metrics: Json, route: str, mark: str) -> Cell:
    try:
        text, key = column.tell(metrics, metrics["samples"][route])
    except KeyError:
        return Cell(MISSING, "", "")
    return Cell(text, key, "" if column.compares else mark)


def _filled(columns: list[Column], entries: list[Entry]) -> list[Column]:
    ways = [(entry.metrics, route) for entry in entries for route in entry.metrics["samples"]]
    return [column for column in columns if any(_cell(column, *way, "").text != MISSING for way in ways)]


def _verdict(rule: str) -> Column:
    def tell(metrics: Json, samples: Json) -> Shown:
        status = verdicts(samples)[list(RULES).index(rule)].status
        return f"{ICONS.get(status, '?')} {status}", RANKS.get(status, 1)

    return Column(f"Rule {rule}", "", "", tell)


def _measures(inputs: Inputs) -> list[Group]:
    """A group for each feature space. The one where most measures have a say is shown at first."""
    better, say = directions(inputs.calibration), having_say(inputs.calibration)
    routes = [found for entry in inputs.entries for found in entry.metrics["samples"].values()]
    spaces: dict[str, dict[str, None]] = {}
    for found in routes:
        for space, measures in found.get("measures", {}).items():
            spaces.setdefault(space, {}).update(dict.fromkeys(measures))
    first = max(spaces, key=lambda space: sum((space, name) in say for name in spaces[space]), default="")
    return [
        Group(
            f"Measures in {space}",
            [Column(name, "", better.get((space, name), ""), partial(_measure, space, name)) for name in names],
            space == first,
        )
        for space, names in spaces.items()
    ]


def _measure(space: str, name: str, metrics: Json, samples: Json) -> Shown:
    found = samples["measures"][space][name]
    return plus_minus(found["value"], found.get("standard_error")), found["value"]
