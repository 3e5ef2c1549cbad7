"""The one table of metrics: a row for each entry and way to sample. What a model cannot do reads "—"."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import ascii_lowercase

from latentmill.report.captions import percent
from latentmill.report.inputs import Entry, Json

MISSING, MINUS = "—", "\N{MINUS SIGN}"


def minus(number: str) -> str:
    """A formatted number with the sign of mathematics."""
    return number.replace("-", MINUS)


@dataclass(frozen=True)
class Column:
    """A number that the evaluation found."""

    metric: str  # where in an entry's metrics it stands
    title: str
    better: str  # which way is better, as an arrow
    unit: str
    tell: Callable[[Json], str]
    compares: bool = True  # False: only within one sample space


@dataclass(frozen=True)
class Cell:
    """What stands in one place of the table."""

    text: str
    mark: str  # the letter of its sample space, where there are several
    height: int  # rows that it spans
    starts: bool  # a group of columns


@dataclass(frozen=True)
class Row:
    """An entry under one way to sample."""

    name: str
    route: str
    exported: bool
    height: int  # rows that the entry spans; 0 below its first
    cells: list[Cell]


def _nats(found: Json) -> str:
    return minus(f"{found['nats']:.1f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{found['standard_error']:.1f}")


def _bits(found: Json) -> str:
    return minus(f"{found['bits_per_dimension']:.3f}")


GROUPS = {
    "Rule 1: drawn from the data": (
        Column("samples", "precision", "↑", "% of samples", lambda found: percent(found["precision"])),
        Column("samples", "coverage", "↑", "% of test images", lambda found: percent(found["coverage"])),
    ),
    "Rule 2: not copies": (
        Column("samples", "to train", "", "median distance", lambda found: f"{found['nearest_train_median']:.2f}"),
        Column(
            "samples", "ratio to test", "", "1 is usual", lambda found: f"{found['nearest_train_ratio_to_test']:.2f}"
        ),
        Column("samples", "very close", "↓", "% of samples", lambda found: percent(found["closer_than_1pct_of_test"])),
    ),
    "Likelihood of test images": (
        Column("likelihood", "found as", "", "", lambda found: found["kind"]),
        Column("likelihood", f"{MINUS}log p(x)", "↓", "nats per image ± standard error", _nats, compares=False),
        Column("likelihood", "the same", "↓", "bits per dimension", _bits, compares=False),
    ),
    "Reconstruction": (
        Column("reconstruction", "MSE", "↓", "per pixel in [0, 1]", lambda found: f"{found['mse']:.4f}"),
        Column("reconstruction", "PSNR", "↑", "dB", lambda found: f"{found['psnr_db']:.1f}"),
        Column("reconstruction", "SSIM", "↑", "at most 1", lambda found: f"{found['ssim']:.3f}"),
    ),
    "Codes": (
        Column("kl", "KL to N(0, I)", "", "nats per image", lambda found: f"{found['nats']:.1f}"),
        Column("kl", "in use", "", "dimensions", lambda found: str(found["active_dimensions"])),
    ),
}
COLUMNS = [column for group in GROUPS.values() for column in group]
FIRST = {group[0] for group in GROUPS.values()}


def sample_spaces(entries: list[Entry]) -> dict[str, str]:
    """Each sample space of the likelihoods with its mark; the marks are empty where one space makes all compare."""
    found = [entry.metrics["likelihood"]["sample_space"] for entry in entries if "likelihood" in entry.metrics]
    spaces = list(dict.fromkeys(found))
    return dict(zip(spaces, ascii_lowercase if len(spaces) > 1 else [""] * len(spaces), strict=False))


def rows(entries: list[Entry]) -> list[Row]:
    """The table's rows, the entries in the order of the ladder."""
    spaces = sample_spaces(entries)
    return [row for entry in entries for row in _rows(entry, spaces)]


def _rows(entry: Entry, spaces: dict[str, str]) -> Iterator[Row]:
    mark = spaces.get(entry.metrics.get("likelihood", {}).get("sample_space"), "")
    routes = list(entry.metrics["samples"])
    for route in routes:
        height = len(routes) if route == routes[0] else 0
        shown = [column for column in COLUMNS if height or column.metric == "samples"]
        found = entry.metrics | {"samples": entry.metrics["samples"][route]}
        cells = [_cell(column, found.get(column.metric), mark, height) for column in shown]
        yield Row(entry.name, route, route == entry.metrics["exported_prior"], height, cells)


def _cell(column: Column, found: Json | None, mark: str, height: int) -> Cell:
    """One number; those of samples stand in each row, the others once an entry."""
    span = 1 if column.metric == "samples" else height
    text = MISSING if found is None else column.tell(found)
    return Cell(text, "" if found is None or column.compares else mark, span, column in FIRST)
