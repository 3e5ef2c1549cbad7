"""The section about the data, from the manifest of the prepared data set, in which some facts may be missing."""

import re
from dataclasses import dataclass

from latentmill.data.preparation.sufficiency import RARE
from latentmill.report.inputs import Inputs, Json
from latentmill.report.numbers import count, plural
from latentmill.report.pictures import strip, uri
from latentmill.runtime.text import one_line

COLUMNS = 16  # test images in a row, as in the pictures of samples
OPEN = 12  # classes that are not folded away
NAMED = 10  # files that were dropped, by name
COPY = re.compile(r"in \w+, but a copy of .* in an earlier split", re.DOTALL)  # the reason of a file that is one
SLIDER_NOTES = ("a slider toward", "sliders toward")  # how sentences of the stage prepare begin that concern no verdict


@dataclass(frozen=True)
class ClassRow:
    """One class, with its images by split."""

    name: str
    counts: list[int]
    rare: bool  # too rare for a direction toward it


@dataclass(frozen=True)
class DroppedFiles:
    """Files that are not in the prepared data set, for one kind of reason."""

    kind: str
    total: int
    named: list[tuple[str, str]]  # the first, with their reasons

    @property
    def title(self) -> str:
        more = f", the first {len(self.named)}" if self.total > len(self.named) else ""
        return f"{self.kind}: {count(self.total)}{more}"


@dataclass(frozen=True)
class Data:
    """The section about the data."""

    picture: str  # a data: URI
    caption: str
    about: str  # in a line
    facts: list[tuple[str, str]]
    splits: list[str]
    classes: list[ClassRow]  # the first `OPEN`
    more_classes: list[ClassRow]
    too_small_for: list[str]  # sentences about verdicts
    notes: list[str]
    dropped: list[DroppedFiles]


def data(inputs: Inputs) -> Data:
    """The section, with the facts that are known."""
    manifest, intake = inputs.manifest, inputs.manifest.get("intake") or {}
    classes = _classes(manifest)
    short = list(manifest.get("too_small_for") or [])
    slider_notes = [sentence for sentence in short if sentence.startswith(SLIDER_NOTES)]
    return Data(
        uri(inputs.sheet or strip(inputs.test[: 2 * COLUMNS], COLUMNS)),
        "Training images, drawn at random" if inputs.sheet else "Test images, on which no model was trained",
        _about(manifest),
        [fact for fact in _facts(manifest, intake) if fact[1]],
        list(manifest["counts"]),
        classes[:OPEN],
        classes[OPEN:],
        [sentence for sentence in short if sentence not in slider_notes],
        [*(manifest.get("notes") or []), *slider_notes],
        _dropped(inputs.dropped),
    )


def _about(manifest: Json) -> str:
    channels, height, width = manifest["shape"]
    counts = ", ".join(f"{count(number)} {split}" for split, number in manifest["counts"].items())
    classes = plural(len(manifest["classes"]), "class", "es") if manifest["classes"] else "no labels"
    return f"{counts}; {height} \N{MULTIPLICATION SIGN} {width} pixels, {plural(channels, 'channel')}; {classes}"


def _facts(manifest: Json, intake: Json) -> list[tuple[str, str]]:
    copies = {split: number for split, number in manifest.get("duplicates_dropped", {}).items() if number}
    return [
        ("files seen", count(intake["files"]) if "files" in intake else ""),
        ("unusable files", _unusable(intake)),
        ("copies of an earlier split left out", _listed(copies) if copies else "none"),
        ("formats", _listed(intake.get("formats"))),
        ("modes", _listed(intake.get("modes"))),
        ("sizes, width by height", _listed(intake.get("sizes")).replace("x", "\N{MULTIPLICATION SIGN}")),
        ("converted", _listed(intake.get("conversions"))),
        ("known factors, values", _listed({name: len(of) for name, of in (manifest.get("factors") or {}).items()})),
        ("digest", str(manifest["digest"])[:12]),
    ]


def _dropped(rows: list[tuple[str, str]]) -> list[DroppedFiles]:
    """Unusable files, then copies, each if there are any."""
    copies = [row for row in rows if COPY.fullmatch(row[1])]
    unusable = [row for row in rows if not COPY.fullmatch(row[1])]
    kinds = {"unusable files": unusable, "copies of images in an earlier split": copies}
    return [DroppedFiles(kind, len(found), _named(found)) for kind, found in kinds.items() if found]


def _named(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(one_line(name), one_line(reason)) for name, reason in rows[:NAMED]]


def _unusable(intake: Json) -> str:
    if not intake.get("dropped"):
        return "none" if "dropped" in intake else ""
    reasons = _listed(intake.get("reasons"))
    return f"{count(intake['dropped'])}{f': {reasons}' if reasons else ''}"


def _listed(found: dict[str, int] | None) -> str:
    """{"PNG": 3700, "GIF": 5} -> "PNG (3 700), GIF (5)"."""
    return ", ".join(f"{one_line(name)}\N{NO-BREAK SPACE}({count(number)})" for name, number in (found or {}).items())


def _classes(manifest: Json) -> list[ClassRow]:
    """In the order of the labels; empty without counts."""
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
