"""The record of a judgement, which docs/judge.md describes: all that was found, as JSON."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from latentmill.evaluation.calibration_record import calibration_record
from latentmill.evaluation.copies import relative_distances
from latentmill.evaluation.copy_search import CopySearch
from latentmill.evaluation.copy_space import AlignedSpace
from latentmill.evaluation.damage import IMAGES, EquivalentDamage
from latentmill.evaluation.judge import Judge, Judgement
from latentmill.features.aligned import can_align
from latentmill.judging.intake import HELD_OUT, SAMPLES, TRAIN, ImageSet, Json
from latentmill.judging.pairs import PAIRS
from latentmill.judging.real_images import RealImages
from latentmill.proportion import CONFIDENCE, Found
from latentmill.runtime.text import plural

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Facts:
    """What a record is made of."""

    sets: dict[str, ImageSet]
    real: RealImages
    judge: Judge
    judgement: Judgement
    copies: CopySearch
    names: list[str]  # of the samples, in the order in which they were judged


def record(facts: Facts, require: Collection[int], seed: int) -> Json:
    """The record; `status` is about the rules that are required."""
    found = facts.judgement.metrics()
    metrics = found.pop("metrics")
    statuses = {found[f"rule_{rule}"]["status"] for rule in require}
    status = "fail" if "fail" in statuses else "inconclusive" if "inconclusive" in statuses else "pass"
    return {
        "format": FORMAT,
        "status": status,
        "required": sorted(require),
        **found,
        "seed": seed,
        "images": {name: _described(each) for name, each in facts.sets.items()},
        "known": _numbers_of_images(facts),
        "notes": list(_notes(facts)),
        "damage": [_damage(each) for each in facts.judgement.damages],
        "copies": _copies(facts.copies),
        "closest": _closest(facts),
        "metrics": metrics,
        "calibration": calibration_record(facts.judge),
    }


def _described(images: ImageSet) -> Json:
    return {
        "description": images.description,
        "count": len(images.images),
        "shape": list(images.images.shape[1:]),
        "sha256": images.digest,
        "files": images.facts,
    }


def _numbers_of_images(facts: Facts) -> Json:
    data = facts.real.data
    return {
        "searched": len(facts.real.train),
        "searched_after_changes": _searched_after_changes(facts.real.train),
        "train": len(data.train),
        "held_out": facts.real.held_out,
        "set_aside": facts.real.set_aside,
        "left_out": facts.real.left_out,
        "classes": data.classes,
        "flip": data.flip,
    }


def _searched_after_changes(train: np.ndarray) -> int:
    """How many of the training images; 0 where these are too small for changes."""
    return min(len(train), AlignedSpace.most) if can_align(train.shape[1:]) else 0


def _notes(facts: Facts) -> Iterator[str]:
    """What a reader of the verdicts should know of the images, in sentences."""
    real, sets = facts.real, facts.sets
    if real.set_aside:
        yield (
            f"The result is weaker than with held-out images: {real.held_out:,} training images stand for new ones, "
            "but the generator has seen them. What it learnt by heart counts in favour of Rule 1, and the metrics of "
            "Rule 2 see no copies of these images. The search for copies looks at all training images."
        )
    if real.left_out:
        left = plural(real.left_out, "held-out image was", "held-out images were")
        yield f"{left} left out, because other images are the same, or nearly."
    yield from _different(sets)
    yield from (f"{note[0].upper()}{note[1:]}." for note in real.notes)
    for name, each in sets.items():
        if each.facts["dropped"]:
            reasons = ", ".join(f"{count:,} times {reason}" for reason, count in each.facts["reasons"].items())
            yield f"Of the {name}, {each.facts['dropped']:,} files could not be used: {reasons}."


def _different(sets: dict[str, ImageSet]) -> Iterator[str]:
    """How the samples differ from real images by the files alone, which Rule 1 sees."""
    samples, others = sets[SAMPLES], [sets[name] for name in (TRAIN, HELD_OUT) if name in sets]
    for resized in {each.resized for each in others} - {samples.resized}:
        which = "real images, but not the samples," if resized else "samples, but not the real images,"
        yield f"The {which} were resized, which leaves traces that Rule 1 may see."
    for colour in {each.in_colour for each in others} - {samples.in_colour}:
        ours, theirs = ("grey", "in colour") if colour else ("in colour", "grey")
        yield f"The samples are {ours}, but real images are {theirs}."


def _copies(found: CopySearch) -> Json:
    return {
        "confidence": CONFIDENCE,
        "samples": found.near.of,
        "exact": found.exact.count,
        "near": found.near.count,
        "near_after_changes": found.aligned.count,
        "held_out": _counts(found.held_out),
        "kinds": [
            {"kind": kind, **_counts(each), "highest_share": found.highest_share(kind)}
            for kind, each in found.kinds.items()
        ],
    }


def _damage(found: EquivalentDamage) -> Json:
    curve = found.curve
    return {
        "kind": curve.kind,
        "metric": curve.metric,
        "space": curve.space,
        "value": found.value,
        "damage": found.damage,
        "low": found.low,
        "high": found.high,
        "like": f"{IMAGES[curve.rule]} {found.words}",
        "curve": {"levels": list(curve.levels), "values": list(curve.values), "standard_error": curve.error},
    }


def _counts(found: Found) -> Json:
    return {"found": found.count, "of": found.of}


def _closest(facts: Facts) -> list[Json]:
    """The samples shown, each with its nearest training image."""
    rows = facts.copies.closest[:PAIRS]
    nearest = facts.copies.neighbours[rows]
    relative = relative_distances(nearest)
    return [
        {
            "sample": facts.names[row],
            "train": facts.real.names[nearest.indices[place, 0]],
            "mirrored": nearest.mirrored is not None and bool(nearest.mirrored[place]),
            "distance": float(nearest.distances[place, 0]),
            "relative_distance": float(relative[place]),
        }
        for place, row in enumerate(rows)
    ]
