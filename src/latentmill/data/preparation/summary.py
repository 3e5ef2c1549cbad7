"""What was seen of a collection, counted for the manifest and said in lines."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from latentmill.data.collection import Dropped
from latentmill.data.preparation.intake import Taken

COMMONEST = 10  # sizes and classes that are told one by one
Say = Callable[[str], None]


def seen(taken: Taken) -> dict[str, Any]:
    """How many files there were, what became of them, and what they were."""
    facts = taken.facts
    sizes = dict(facts.sizes.most_common(COMMONEST))
    others = sum(facts.sizes.values()) - sum(sizes.values())
    return {
        "files": len(taken.items) + len(taken.dropped),
        "dropped": len(taken.dropped),
        "reasons": dict(Counter(kinds(taken.dropped)).most_common()),
        "formats": dict(facts.formats.most_common()),
        "modes": dict(facts.modes.most_common()),
        "sizes": sizes | ({"other": others} if others else {}),
        "conversions": dict(facts.conversions.most_common()),
    }


def kinds(dropped: Iterable[Dropped]) -> list[str]:
    """Reasons without what differs from file to file."""
    return [each.reason.partition(":")[0] for each in dropped]


def lines(manifest: dict[str, Any], say: Say) -> None:
    """What there is to say of a prepared data set, a line a fact."""
    intake = manifest["intake"]
    channels, height, width = manifest["shape"]
    say(f"{manifest['description']}: {intake['files']:,} files")
    for key in ("formats", "modes", "sizes", "conversions"):
        if intake[key]:
            say(f"  {key}: {_counted(intake[key])}")
    if intake["dropped"]:
        say(f"  dropped: {_counted(intake['reasons'])}; see dropped.csv")
    if manifest["classes"]:
        say(f"  {len(manifest['classes'])} classes: {', '.join(manifest['classes'][:COMMONEST])}")
    copies = manifest["duplicates_dropped"]
    shape = f"{height} x {width} pixels, {channels} channel{'s' * (channels > 1)}"
    say(f"  images of {shape}; {_counted(manifest['counts'])}")
    if any(copies.values()):
        say(f"  left out as copies of an image in an earlier split: {_counted({k: n for k, n in copies.items() if n})}")
    for sentence in [*manifest["notes"], *manifest["too_small_for"]]:
        say(f"  note: {sentence}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
