"""The page of a judgement of anyone's samples: one file to mail, in plain words, from the record that was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from latentmill.report.calibration import Judged, limits, rules
from latentmill.report.inputs import Json
from latentmill.report.numbers import count, share
from latentmill.report.page import templates
from latentmill.report.pictures import uri
from latentmill.report.standing import axis, strips
from latentmill.report.verdicts import RULES, ShownVerdict, verdicts

WORDS = {  # of each rule, by the status
    "1": {
        "pass": "The samples look like the data.",
        "fail": "The samples do not look like the data.",
        "inconclusive": "Whether the samples look like the data can't be said.",
    },
    "2": {
        "pass": "The samples are new, and not copied from the training images.",
        "fail": "The samples are too close to the training images.",
        "inconclusive": "Whether the samples are new or copied can't be said.",
    },
}
MISSED = 0.5  # share of copies of a kind, below which most are missed


class Pictures(Protocol):
    """PNGs."""

    @property
    def samples(self) -> bytes:
        """Some samples."""

    @property
    def real(self) -> bytes:
        """As many real images, or all held out for the tests where these are fewer."""

    @property
    def real_count(self) -> int:
        """How many these are."""

    @property
    def pairs(self) -> Sequence[bytes]:
        """Each a sample and its nearest training image."""


@dataclass(frozen=True)
class Outcome:
    """A rule's verdict, in plain words."""

    verdict: ShownVerdict
    title: str
    words: str


@dataclass(frozen=True)
class CopyKind:
    """Copies of one kind: how many of them would be found, and how many there may be."""

    name: str
    rate: str
    highest: str  # the share of the samples, of which no more are such copies; empty: not known
    missed: bool


@dataclass(frozen=True)
class ControlOutcome:
    """What the metrics made of a control."""

    rule: str
    name: str
    positive: bool
    detected_by: list[str]  # the metrics that fail it, for a negative control
    excluded_by: list[str]  # others, which separate it from real images: samples may be shown to be unlike it


@dataclass(frozen=True)
class Damage:
    """The damage to real images that scores the same as the samples, in words."""

    metric: str
    words: str


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training image."""

    picture: str  # a data: URI
    sample: str
    train: str
    relative: float


def render(record: Json, pictures: Pictures) -> str:
    """The page as HTML."""
    calibrated = rules(record["calibration"], [Judged("samples", "S", record["metrics"])])
    axes = [axis(rule) for rule in calibrated]
    return (
        templates()
        .get_template("judgement.html.j2")
        .render(
            record=record,
            headline=headline(record),
            outcomes=outcomes(record),
            copies=copies_found(record["copies"]),
            kinds=kinds(record["copies"]),
            controls=controls(record),
            damages=damages(record),
            limits=limits(record["calibration"]),
            samples=uri(pictures.samples),
            real=uri(pictures.real),
            shown_real=pictures.real_count,
            pairs=_pairs(record, pictures.pairs),
            manifest={"classes": record["known"]["classes"]},
            calibration=record["calibration"],
            other_samples="",
            calibrated=[(rule, along, strips(rule, along)) for rule, along in zip(calibrated, axes, strict=True)],
        )
    )


def outcomes(record: Json) -> list[Outcome]:
    """Of both rules."""
    return [Outcome(each, RULES[each.rule], WORDS[each.rule].get(each.status, "")) for each in verdicts(record)]


def headline(record: Json) -> str:
    """The verdicts in one line."""
    by_status: dict[str, list[str]] = {}
    for each in verdicts(record):
        by_status.setdefault(each.status, []).append(f"Rule {each.rule}")
    if "fail" in by_status:
        return f"The samples fail {' and '.join(by_status['fail'])}."
    if "inconclusive" in by_status:
        return f"The judgement is inconclusive on {' and '.join(by_status['inconclusive'])}."
    return "The samples pass both rules."


def copies_found(found: Json) -> str:
    """What the search for copies found among all samples, and what it would have found, in sentences."""
    samples = f"{count(found['samples'])} samples"
    unchanged = next(each for each in found["kinds"] if each["kind"] == "unchanged")
    near, held_out = found["near"] / found["samples"], found["held_out"]["found"] / found["held_out"]["of"]
    nearly = (
        f"{share(near)} of the samples are near copies of a training image, as are {share(held_out)} of real new images"
    )
    if changed := found["near_after_changes"]:
        nearly += f"; {count(changed)} of the samples are so only after a small shift, zoom or rotation"
    if found["exact"]:
        first = (
            f"{count(found['exact'])} of {samples} ({share(found['exact'] / found['samples'])}) are training images."
        )
    else:
        sure, least = share(found["confidence"]), share(unchanged["highest_share"])
        first = (
            f"None of {samples} is a training image. If more than {least} were, this search would have found one, with "
            f"a certainty of {sure}."
        )
    return f"{first} {nearly}."


def kinds(found: Json) -> list[CopyKind]:
    """Each kind of copies that was tried."""
    made = []
    for each in found["kinds"]:
        rate, most = each["found"] / each["of"], each["highest_share"]
        missed = rate < MISSED
        highest = "" if missed and most == 1 else share(most)  # of a kind that is found, all may be such copies
        made.append(CopyKind(each["kind"], share(rate), highest, missed))
    return made


def controls(record: Json) -> list[ControlOutcome]:
    """Each control of both rules."""
    made = []
    for rule, found in record["calibration"]["rules"].items():
        for each in found["controls"]:
            detecting, separating = (_naming(each["name"], found["metrics"], key) for key in ("detects", "separates"))
            excluding = [name for name in separating if name not in detecting]
            made.append(ControlOutcome(rule, each["name"], each["positive"], detecting, excluding))
    return made


def _naming(control: str, metrics: list[Json], key: str) -> list[str]:
    """The metrics that name the control under `key`."""
    return [f"{each['metric']} ({each['space']})" for each in metrics if control in each.get(key, {})]


def damages(record: Json) -> list[Damage]:
    """What each score is equivalent to."""
    return [
        Damage(f"{each['metric']} {each['value']:.3g} ({each['space']})", each["like"]) for each in record["damage"]
    ]


def _pairs(record: Json, shown: Sequence[bytes]) -> list[Pair]:
    return [
        Pair(uri(picture), each["sample"], each["train"], each["relative_distance"])
        for picture, each in zip(shown, record["closest"], strict=True)
    ]
