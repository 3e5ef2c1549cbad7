"""The section of one entry: its introduction, its winner, and its pictures."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from latentmill.export.outcome import ExportOutcome
from latentmill.report.captions import Subject, holes, prior_name
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.introduction import Blocks, introduction
from latentmill.report.likelihoods import ShownLikelihood, likelihoods
from latentmill.report.numbers import plain
from latentmill.report.pictures import Gallery, Picture, gallery, pictures, shown_distances
from latentmill.report.verdicts import LIMITS, ShownVerdict, ceiling, limited_by, verdicts


@dataclass(frozen=True)
class PriorSection:
    """The samples of a model under one prior."""

    name: str
    exported: bool
    verdicts: list[ShownVerdict]
    limit: str  # what keeps it from passing Rule 1, in a sentence
    holes: str  # whether the prior has holes, in words
    samples: Picture | None
    gallery: Gallery | None
    pictures: list[Picture]  # the others

    @property
    def title(self) -> str:
        return prior_name(self.name)


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one entry."""

    rank: int
    name: str
    model: str
    introduction: Blocks
    adds: str  # to the entries before, in a sentence; empty if neither params.yaml nor its model has one
    lacks: str  # what it still can't do
    likelihood: ShownLikelihood | None
    samples: int | None  # that were drawn under each prior, where the number is its own
    settings: list[str]  # the winner's values of what the ladder sets
    configuration: Json  # the winner's, complete
    trials: int  # without those of its priors
    record: Json
    choice: str  # how near each prior is, where there are several
    ceiling: ShownVerdict | None  # on reconstructions of validation images
    outcome: ExportOutcome
    files: Json
    formats: Json
    priors: list[PriorSection]  # the exported one first
    groups: list[tuple[str, list[Picture]]]  # the pictures that are not of samples, by their group

    @property
    def exported(self) -> PriorSection:
        return self.priors[0]


def sections(inputs: Inputs) -> list[Section]:
    found = likelihoods(inputs.entries)
    return [_section(entry, inputs, found.get(entry.name)) for entry in inputs.entries]


def _section(entry: Entry, inputs: Inputs, likelihood: ShownLikelihood | None) -> Section:
    trial = entry.record["trial"]
    configuration = trial["config"] | (trial["training"] or {})
    found = pictures(entry, inputs.manifest)
    priors = sorted(entry.metrics["samples"], key=lambda prior: prior != entry.metrics["exported_prior"])
    others = [picture for picture in found if picture.prior not in priors]
    about = introduction(trial["model"])
    return Section(
        entry.rank,
        entry.name,
        trial["model"],
        about.blocks,
        entry.space.get("adds") or about.adds,
        entry.space.get("lacks") or about.lacks,
        likelihood,
        entry.samples if entry.samples != inputs.samples else None,
        [_setting(key, configuration[key], tried) for key, tried in entry.space.items() if key in configuration],
        configuration | {"seed": trial["seed"]},
        sum(row["entry"] == entry.name and not row["prior"] for row in inputs.trials),
        entry.record,
        _choice(entry.metrics),
        ceiling(entry.metrics),
        entry.outcome,
        entry.files,
        entry.formats,
        [_prior(f"sheet-{entry.rank}-{place}", prior, entry, found, inputs) for place, prior in enumerate(priors)],
        [(group, list(each)) for group, each in groupby(others, key=lambda picture: picture.group)],
    )


def _choice(metrics: Json) -> str:
    """The exported prior, beside the distances of all to the validation images, by which auto chooses."""
    samples, exported = metrics["samples"], prior_name(metrics["exported_prior"])
    measured = {prior: found.get("validation", {}).get("frechet_distance") for prior, found in samples.items()}
    distances = [f"{prior_name(prior)} {plain(each)}" for prior, each in measured.items() if each is not None]
    if len(samples) < 2 or not distances:
        return exported if len(samples) > 1 else ""
    return f"{exported}. Fréchet distance to validation images: {', '.join(distances)}"


def _prior(sheet: str, prior: str, entry: Entry, found: list[Picture], inputs: Inputs) -> PriorSection:
    by_kind = {picture.kind: picture for picture in found if picture.prior == prior}
    shown, samples = by_kind.pop("gallery", None), by_kind.pop("samples", None)
    subject = Subject(entry.metrics, prior, inputs.manifest)
    return PriorSection(
        prior,
        prior == entry.metrics["exported_prior"],
        verdicts(subject.samples),
        LIMITS.get(limited_by(entry.metrics, subject.samples), ""),
        holes(subject.samples),
        samples,
        gallery(sheet, shown, shown_distances(entry.galleries, prior), inputs.manifest["shape"]) if shown else None,
        list(by_kind.values()),
    )


def _setting(key: str, value: Any, tried: Any) -> str:
    """A hyperparameter that the ladder sets, and the other values that were tried."""
    setting = f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
    if isinstance(tried, list) and len(tried) > 1:
        return f"{setting} (of {', '.join(map(str, tried))})"
    if isinstance(tried, dict):
        ((sampler, bounds),) = tried.items()
        return f"{setting} ({sampler} of {', '.join(map(str, bounds))})"
    return setting
