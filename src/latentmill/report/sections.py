"""All about one entry: its introduction, its winner, and its pictures by what they are about."""

import inspect
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from latentmill import variants
from latentmill.export.outcome import Outcome
from latentmill.report.captions import Subject, route_name, told_of_codes
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.pictures import Gallery, Picture, gallery, pictures, sheet_of
from latentmill.report.verdicts import Verdict, verdicts

Blocks = list[tuple[str, str]]  # "formula" or "text", and the block itself


@dataclass(frozen=True)
class Route:
    """One way to sample from a model."""

    name: str
    exported: bool
    verdicts: list[Verdict]
    told: str  # whether its codes are drawn from where those of images are
    samples: Picture | None
    gallery: Gallery | None
    pictures: list[Picture]  # the others

    @property
    def title(self) -> str:
        return route_name(self.name)


@dataclass(frozen=True)
class Section:
    """All about one entry."""

    rank: int
    name: str
    variant: str
    introduction: Blocks
    settings: list[str]  # what the ladder sets, as the winner has it
    everything: Json  # the winner's whole configuration
    trials: int
    record: Json
    outcome: Outcome
    files: Json
    forms: Json
    routes: list[Route]  # the exported one first
    groups: list[tuple[str, list[Picture]]]  # the pictures that are not of samples, by what they are about

    @property
    def exported(self) -> Route:
        return self.routes[0]


def sections(inputs: Inputs) -> list[Section]:
    return [_section(entry, inputs) for entry in inputs.entries]


def introduction(variant: str) -> Blocks:
    """The docstring of a variant's module, so that a new variant brings its own words."""
    lines = (inspect.getdoc(inspect.getmodule(variants.find(variant))) or "").splitlines()
    blocks = [(style, list(block)) for style, block in groupby(lines, key=_style)]
    return [(style, inspect.cleandoc("\n".join(["", *block]))) for style, block in blocks if style != "blank"]


def _style(line: str) -> str:
    return "blank" if not line.strip() else "formula" if line.startswith(" ") else "text"


def _section(entry: Entry, inputs: Inputs) -> Section:
    trial = entry.record["trial"]
    everything = trial["model"] | (trial["training"] or {})
    found = pictures(entry, inputs.manifest["classes"] is not None)
    routes = sorted(entry.metrics["samples"], key=lambda route: route != entry.metrics["exported_prior"])
    others = [picture for picture in found if picture.route not in routes]
    return Section(
        entry.rank,
        entry.name,
        trial["variant"],
        introduction(trial["variant"]),
        [_setting(key, everything[key], asked) for key, asked in entry.space.items() if key in everything],
        everything | {"seed": trial["seed"]},
        sum(row["entry"] == entry.name for row in inputs.trials),
        entry.record,
        entry.outcome,
        entry.files,
        entry.forms,
        [_route(f"sheet-{entry.rank}-{place}", route, entry, found, inputs) for place, route in enumerate(routes)],
        [(group, list(each)) for group, each in groupby(others, key=lambda picture: picture.group)],
    )


def _route(sheet: str, route: str, entry: Entry, found: list[Picture], inputs: Inputs) -> Route:
    by_kind = {picture.kind: picture for picture in found if picture.route == route}
    shown, samples = by_kind.pop("gallery", None), by_kind.pop("samples", None)
    subject = Subject(entry.metrics, route, inputs.manifest["classes"] is not None)
    return Route(
        route,
        route == entry.metrics["exported_prior"],
        verdicts(subject.samples),
        told_of_codes(subject.samples),
        samples,
        gallery(sheet, shown, sheet_of(entry.galleries, route), inputs.manifest["shape"]) if shown else None,
        list(by_kind.values()),
    )


def _setting(key: str, value: Any, asked: Any) -> str:
    """A hyperparameter that the ladder sets, and what else was tried where it was searched."""
    told = f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
    if isinstance(asked, list) and len(asked) > 1:
        return f"{told} (of {', '.join(map(str, asked))})"
    if isinstance(asked, dict):
        ((sampler, bounds),) = asked.items()
        return f"{told} ({sampler} of {', '.join(map(str, bounds))})"
    return told
