"""What the page shows of the images themselves, from what the stage prepare says of them. It may say less than this."""

from dataclasses import dataclass

from latentmill.data.preparation.sufficiency import RARE
from latentmill.report.inputs import Inputs, Json
from latentmill.report.numbers import count
from latentmill.report.pictures import strip, uri
from latentmill.runtime.text import one_line

COLUMNS = 16  # test images in a row, as in the pictures of samples
OPEN = 12  # classes that are not folded away
NAMED = 10  # files that were dropped, by name


@dataclass(frozen=True)
class ClassRow:
    """One class, with its images by split."""

    name: str
    counts: list[int]
    rare: bool  # too rare for a direction toward it


@dataclass(frozen=True)
class Data:
    """The section about the data."""

    picture: str  # a data: URI
    caption: str
    facts: list[tuple[str, str]]
    splits: list[str]
    classes: list[ClassRow]  # the first `OPEN`
    more_classes: list[ClassRow]
    too_small_for: list[str]
    notes: list[str]
    dropped: list[tuple[str, str]]  # the first names, with their reasons
    dropped_in_all: int


def data(inputs: Inputs) -> Data:
    """All that is known."""
    manifest, intake = inputs.manifest, inputs.manifest.get("intake") or {}
    classes = _classes(manifest)
    return Data(
        uri(inputs.sheet or strip(inputs.test[: 2 * COLUMNS], COLUMNS)),
        "Training images, drawn at random" if inputs.sheet else "Test images, which no model has seen",
        [fact for fact in _facts(manifest, intake) if fact[1]],
        list(manifest["counts"]),
        classes[:OPEN],
        classes[OPEN:],
        list(manifest.get("too_small_for") or []),
        list(manifest.get("notes") or []),
        [(one_line(name), one_line(reason)) for name, reason in inputs.dropped[:NAMED]],
        int(intake.get("dropped", len(inputs.dropped))),
    )


def _facts(manifest: Json, intake: Json) -> list[tuple[str, str]]:
    copies = {split: number for split, number in manifest.get("duplicates_dropped", {}).items() if number}
    return [
        ("files seen", count(intake["files"]) if "files" in intake else ""),
        ("files dropped", _dropped(intake)),
        ("copies of an earlier split left out", _listed(copies) if copies else "none"),
        ("formats", _listed(intake.get("formats"))),
        ("modes", _listed(intake.get("modes"))),
        ("sizes, width by height", _listed(intake.get("sizes")).replace("x", "\N{MULTIPLICATION SIGN}")),
        ("converted", _listed(intake.get("conversions"))),
        ("digest", str(manifest["digest"])[:12]),
    ]


def _dropped(intake: Json) -> str:
    if not intake.get("dropped"):
        return "none" if "dropped" in intake else ""
    reasons = _listed(intake.get("reasons"))
    return f"{count(intake['dropped'])}{f': {reasons}' if reasons else ''}"


def _listed(found: dict[str, int] | None) -> str:
    """{"PNG": 3700, "GIF": 5} -> "PNG (3 700), GIF (5)"."""
    return ", ".join(f"{one_line(name)}\N{NO-BREAK SPACE}({count(number)})" for name, number in (found or {}).items())


def _classes(manifest: Json) -> list[ClassRow]:
    """In the order of the labels; without counts they are not known to be rare."""
    known = manifest.get("class_counts") or {}
    return [
        ClassRow(
            one_line(name),
            [int(known[name].get(split, 0)) for split in manifest["counts"]],
            known[name].get("train", 0) < RARE,
        )
        for name in manifest["classes"] or []
        if name in known
    ]
