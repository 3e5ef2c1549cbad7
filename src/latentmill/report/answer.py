"""The answer in one screen: the champion's samples beside real images, what is known of them, and what to try next.

Without a champion it is about the best entry that was judged.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
from PIL import Image

from latentmill.data.tiles import tile_size, tiles
from latentmill.export.card import exported_samples
from latentmill.proportion import Found
from latentmill.report.captions import prior_name
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.next_steps import next_steps
from latentmill.report.numbers import count, plain, share, size
from latentmill.report.pictures import strip, uri
from latentmill.report.verdicts import RANKS, ShownVerdict, verdicts
from latentmill.runtime.facts import GENERATOR

SHOWN, COLUMNS = 36, 6  # images of a picture, and in a row of it
LOOKS = {"pass": "yes", "fail": "no"}
UNKNOWN = "not known"
DIFFERENT, UNIFORM, LOST = "they differ on the whole", "too little variety", "a class or cluster is too rare"
MEANINGS = {  # of a metric that fails Rule 1
    "precision": "some are like no real image",
    "density": "some are like no real image",
    "recall": UNIFORM,
    "coverage": UNIFORM,
    "Vendi ratio": UNIFORM,
    "Fréchet distance": DIFFERENT,
    "kernel distance": DIFFERENT,
    "C2ST accuracy": "a classifier tells them from real images",
    "rarest group": LOST,
    "group distance": LOST,
}


@dataclass(frozen=True)
class Fact:
    """The answer to one question."""

    question: str
    words: str
    detail: str
    icon: str
    style: str  # the CSS class of its colour


@dataclass(frozen=True)
class Answer:
    """About one entry, with its exported prior."""

    rank: int
    name: str
    prior: str
    is_champion: bool
    facts: list[Fact]
    samples: str  # a data: URI; empty without pictures
    real: str  # as many test images
    shown: int
    steps: list[str]  # to try next


def answer(inputs: Inputs) -> Answer | None:
    """None if no entry was judged."""
    entry = _champion(inputs) or min(inputs.entries, key=_badness, default=None)
    if entry is None:
        return None
    samples = exported_samples(entry.metrics)
    rule_1, rule_2 = verdicts(samples)
    drawn = _tiles(entry, inputs.manifest["shape"])[: len(inputs.test)]
    return Answer(
        entry.rank,
        entry.name,
        prior_name(entry.metrics["exported_prior"]),
        entry is _champion(inputs),
        [_looks(rule_1), _copies(rule_2, samples, entry.samples), _export(entry)],
        uri(strip(drawn, COLUMNS)) if len(drawn) else "",
        uri(strip(tiles(_some(inputs.test, len(drawn) or SHOWN)), COLUMNS)),
        len(drawn),
        next_steps(entry),
    )


def _champion(inputs: Inputs) -> Entry | None:
    return next((each for each in inputs.entries if each.name == inputs.champion.card.get("entry")), None)


def _badness(entry: Entry) -> tuple[float, ...]:
    """By Rule 2, then by Rule 1, then by the distance to the validation images, then the last on the ladder first."""
    samples = exported_samples(entry.metrics)
    rule_1, rule_2 = (RANKS.get(each.status, 1) for each in verdicts(samples))
    return rule_2, rule_1, samples.get("validation", {}).get("frechet_distance", inf), -entry.rank


def _tiles(entry: Entry, shape: list[int]) -> np.ndarray:
    """The first samples, cut from the gallery: uint8 (n, C, h, w), of the size of tiles; none without a gallery."""
    name, channels = f"gallery_{entry.metrics['exported_prior']}", shape[0]
    height, width = tile_size(*shape[1:])
    path = next((each for each in entry.pictures if each.stem == name), None)
    if path is None:
        return np.empty((0, channels, height, width), np.uint8)
    with Image.open(path) as picture:
        sheet = np.asarray(picture)[:, :width]  # (N * h, w) or (N * h, w, C)
    rows = len(sheet) // height
    return sheet[: rows * height].reshape(rows, height, width, channels).transpose(0, 3, 1, 2)[:SHOWN]


def _some(images: np.ndarray, number: int) -> np.ndarray:
    """At random, because images may be sorted by class."""
    chosen = np.random.default_rng(0).permutation(len(images))[:number]
    return np.asarray(images[np.sort(chosen)])


def _looks(verdict: ShownVerdict) -> Fact:
    words, reason = LOOKS.get(verdict.status, UNKNOWN), verdict.reasons[0]
    meaning = next((f"{words}: " for metric, words in MEANINGS.items() if reason.startswith(metric)), "")
    detail = f"{count(verdict.samples)} samples pass Rule 1" if verdict.status == "pass" else f"{meaning}{reason}"
    detail += f"; they score like {verdict.damage}" if verdict.damage else ""
    return Fact("Looks like the data", words, detail, verdict.icon, verdict.style)


def _copies(verdict: ShownVerdict, samples: Json, drawn: int) -> Fact:
    """Exact copies, as far as they were looked for, and near ones among all samples that were drawn."""
    exact = _exact_copies(samples, verdict.samples)
    details = [f"Rule 2, {verdict.status}: {verdict.reasons[0]}"] if verdict.status != "pass" else []
    if exact is not None:
        details.append(_bound(exact))
    if "near_copies" in samples:
        details.append(_near_copies(samples["near_copies"], drawn))
    words = UNKNOWN if exact is None else _counted(exact, verdict.status)
    return Fact("Copies", words, "; ".join(details), verdict.icon, verdict.style)


def _counted(exact: Found, status: str) -> str:
    if status == "fail" and not exact.count:
        return "none, but too close"
    return f"{count(exact.count) if exact.count else 'none'} in {count(exact.of)} samples"


def _near_copies(near: Json, drawn: int) -> str:
    most = Found(round(near["share"] * drawn), drawn).highest()
    found = f"{share(near['share'])} are near copies (at most {share(most)})"
    found += f", as are {share(near['held_out'])} of new images"
    if changed := near.get("after_changes"):
        found += f"; after a small shift, zoom or rotation {share(changed['share'])}"
        found += f", and {share(changed['held_out'])} of new images"
    return found


def _exact_copies(samples: Json, judged: int) -> Found | None:
    """In the feature space that has the most of them."""
    shares = [
        found["exact copies"]["value"] for found in samples.get("metrics", {}).values() if "exact copies" in found
    ]
    return Found(round(max(shares) * judged), judged) if shares and judged else None


def _bound(found: Found) -> str:
    """What share of copies is excluded with a confidence of 95 %."""
    return f"at most {share(found.highest())}" if found.count else f"a share above {share(found.highest())} is excluded"


def _export(entry: Entry) -> Fact:
    outcome = entry.outcome
    if not outcome.exported:
        return Fact("Exported", "no", f"{outcome.status}: {outcome.reason}", "✗", "bad")
    generator = entry.files.get(GENERATOR, {})
    words = size(generator["bytes"]) if generator else "yes"
    times = {int(number): float(each) for number, each in generator.get("milliseconds", {}).items()}
    if not times:
        return Fact("Exported", words, "", "✓", "good")
    at_once, fastest = min(((number, each / number) for number, each in times.items()), key=lambda pair: pair[1])
    detail = f"{count(at_once)} at a time{_alone(times)}; {_machine(outcome.card)}"
    return Fact("Exported", f"{words}, {_short(fastest)} ms an image", detail, "✓", "good")


def _alone(times: dict[int, float]) -> str:
    return f", {_short(times[1])} ms one alone" if len(times) > 1 and 1 in times else ""


def _short(number: float) -> str:
    """Two significant digits: times vary by more."""
    return plain(float(f"{number:.2g}")).rstrip("0").rstrip(".") if number < 10 else f"{number:.0f}"


def _machine(card: Json) -> str:
    found = card.get("measured_on", {})
    return f"onnxruntime on {found['threads']} threads of {found['processor']}" if found else "in onnxruntime"
