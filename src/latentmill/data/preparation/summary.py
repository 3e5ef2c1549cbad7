"""What was seen of a collection, counted for the manifest and said in lines."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from latentmill.data.collection import Dropped
from latentmill.data.preparation.intake import Intake
from latentmill.runtime.text import one_line, plural

COMMONEST = 10  # sizes and classes that are listed one by one
Say = Callable[[str], None]


def seen(intake: Intake) -> dict[str, Any]:
    """How many files there were, how many were used, and their formats."""
    facts = intake.facts
    sizes = dict(facts.sizes.most_common(COMMONEST))
    others = sum(facts.sizes.values()) - sum(sizes.values())
    return {
        "files": len(intake.items) + len(intake.dropped),
        "dropped": len(intake.dropped),
        "reasons": dict(Counter(kinds(intake.dropped)).most_common()),
        "formats": dict(facts.formats.most_common()),
        "modes": dict(facts.modes.most_common()),
        "sizes": sizes | ({"other": others} if others else {}),
        "conversions": dict(facts.conversions.most_common()),
    }


def kinds(dropped: Iterable[Dropped]) -> list[str]:
    """Reasons without what differs from file to file."""
    return [each.reason.partition(":")[0] for each in dropped]


def lines(manifest: dict[str, Any], say: Say) -> None:
    """What there is to say of a prepared data set, a line a fact, with nothing that a name does to a terminal."""
    intake = manifest["intake"]
    say(one_line(f"{manifest['description']}: {plural(intake['files'], 'file')}"))
    for fact in _facts(manifest, intake):
        say(f"  {one_line(fact)}")


def _facts(manifest: dict[str, Any], intake: dict[str, Any]) -> Iterator[str]:
    channels, height, width = manifest["shape"]
    yield from (
        f"{key}: {_counted(intake[key])}" for key in ("formats", "modes", "sizes", "conversions") if intake[key]
    )
    if intake["dropped"]:
        yield f"dropped: {_counted(intake['reasons'])}; see dropped.csv"
    if manifest["classes"]:
        yield f"{plural(len(manifest['classes']), 'class', 'classes')}: {', '.join(manifest['classes'][:COMMONEST])}"
    if factors := manifest.get("factors"):
        known = (f"{name} ({plural(len(values), 'value')})" for name, values in factors.items())
        yield f"known factors: {', '.join(known)}"
    copies = {name: count for name, count in manifest["duplicates_dropped"].items() if count}
    shape = f"{height} x {width} pixels, {plural(channels, 'channel')}"
    yield f"images of {shape}; {_counted(manifest['counts'])}"
    if copies:
        yield f"left out as copies of an image in an earlier split: {_counted(copies)}"
    yield from (f"note: {sentence}" for sentence in [*manifest["notes"], *manifest["too_small_for"]])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
