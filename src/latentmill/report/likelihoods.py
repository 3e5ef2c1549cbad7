"""The likelihood of each entry beside those of the others, on an axis for each sample space.

Worse is on the left; x is in percent of the axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from latentmill.report.inputs import Entry, Json
from latentmill.report.numbers import plain, plus_minus

SAME = 0.05  # nats: a difference that would read 0.0


@dataclass(frozen=True)
class Mark:
    """An entry on the axis."""

    name: str
    nats: str
    x: float


@dataclass(frozen=True)
class ShownLikelihood:
    """-log p(x) of test images, in nats: lower is better."""

    nats: str  # with its standard error
    kind: str  # exact, AIS or bound
    sample_space: str
    gain: str  # over the entry before it that compares, in words; empty for the first
    marks: list[Mark]  # of all entries that compare, the worst first; none where there is but one number


def likelihoods(entries: list[Entry]) -> dict[str, ShownLikelihood]:
    """By the name of the entry, of those that have one."""
    spaces: dict[str, list[Entry]] = {}
    for entry in entries:
        if "likelihood" in entry.metrics:
            spaces.setdefault(_found(entry)["sample_space"], []).append(entry)
    return {name: shown for each in spaces.values() for name, shown in _within(each)}


def _within(entries: list[Entry]) -> Iterator[tuple[str, ShownLikelihood]]:
    """Of entries of one sample space, in the order of the ladder."""
    marks = _marks(entries)
    gains = ["", *(_gain(before, entry) for before, entry in pairwise(entries))]
    for entry, gain in zip(entries, gains, strict=True):
        found = _found(entry)
        nats = plus_minus(found["nats"], found["standard_error"])
        yield entry.name, ShownLikelihood(nats, found["kind"], found["sample_space"], gain, marks)


def _marks(entries: list[Entry]) -> list[Mark]:
    nats = {entry.name: float(_found(entry)["nats"]) for entry in entries}
    best, worst = min(nats.values()), max(nats.values())
    if best == worst:
        return []
    found = [Mark(name, plain(each), 100 * (worst - each) / (worst - best)) for name, each in nats.items()]
    return sorted(found, key=lambda mark: mark.x)


def _gain(before: Entry, entry: Entry) -> str:
    """A difference of the two numbers: where one is a bound, not quite that of the likelihoods."""
    found, reference = _found(entry), _found(before)
    gained = reference["nats"] - found["nats"]
    if abs(gained) < SAME:
        return f"the same as {before.name} ({reference['kind']})"
    words = "better" if gained > 0 else "worse"
    return f"{abs(gained):.1f} nats {words} than {before.name} ({reference['kind']})"


def _found(entry: Entry) -> Json:
    found: Json = entry.metrics["likelihood"]
    return found
