"""The page: what the template shows, worked out from the inputs. It opens from disk, for pictures are data: URIs."""

import base64
import inspect
import io
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from latentmill import variants
from latentmill.report.captions import KINDS, ROUTES, Kind, Subject, kind_of
from latentmill.report.inputs import Entry, Inputs, Json
from latentmill.report.table import GROUPS, minus, rows, sample_spaces
from latentmill.runtime.images import grid

STRIP = 12  # test images in the strip, in rows of 3, as the template crops the samples beside them


@dataclass(frozen=True)
class Picture:
    """A picture of an entry, with what to see in it."""

    title: str
    caption: str
    kind: str
    route: str
    chart: bool
    uri: str


@dataclass(frozen=True)
class Section:
    """All about one entry."""

    name: str
    variant: str
    introduction: list[tuple[str, str]]  # "formula" or "text", and the block itself
    settings: list[str]  # what the ladder sets, as the winner has it
    everything: Json  # the winner's whole configuration
    trials: int
    record: Json
    exported: str  # the way to sample that is exported
    files: Json
    pictures: list[Picture]

    @property
    def samples(self) -> list[Picture]:
        return [picture for picture in self.pictures if picture.kind == "samples"]


def render(inputs: Inputs) -> str:
    """The page as HTML. All text is escaped, and a name that the template misspells is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "size": size, "seconds": seconds, "minus": minus}
    trials = {trial["fingerprint"]: trial for trial in inputs.trials}.values()  # two entries may ask for the same one
    return environment.get_template("page.html.j2").render(
        manifest=inputs.manifest,
        samples=inputs.samples,
        data_uri=_uri(_png(inputs.test[:STRIP])),
        sections=[_section(entry, inputs) for entry in inputs.entries],
        trials=len(trials),
        seconds_in_all=sum(float(trial["seconds"] or 0) for trial in trials),
        failed=[_failure(trial) for trial in inputs.trials if trial["status"] == "failed"],
        groups=GROUPS,
        rows=rows(inputs.entries),
        spaces=sample_spaces(inputs.entries),
        routes=ROUTES,
    )


def count(number: int) -> str:
    """12345 -> 12 345, with thin spaces that do not break."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{max(1, round(number / 1e3))} kB"


def seconds(number: float) -> str:
    return f"{number / 60:.0f} min" if number >= 600 else f"{number:.3g} s"


def introduction(variant: str) -> list[tuple[str, str]]:
    """The docstring of a variant's module, so that a new variant brings its own words."""
    lines = (inspect.getdoc(inspect.getmodule(variants.find(variant))) or "").splitlines()
    blocks = [(style, list(block)) for style, block in groupby(lines, key=_style)]
    return [(style, inspect.cleandoc("\n".join(["", *block]))) for style, block in blocks if style != "blank"]


def _style(line: str) -> str:
    return "blank" if not line.strip() else "formula" if line.startswith(" ") else "text"


def _section(entry: Entry, inputs: Inputs) -> Section:
    trial = entry.record["trial"]
    everything = trial["model"] | (trial["training"] or {})
    return Section(
        entry.name,
        trial["variant"],
        introduction(trial["variant"]),
        [_setting(key, everything[key], asked) for key, asked in entry.space.items() if key in everything],
        everything | {"seed": trial["seed"]},
        sum(row["entry"] == entry.name for row in inputs.trials),
        entry.record,
        entry.metrics["exported_prior"],
        entry.files,
        _pictures(entry, inputs.manifest["labels"]),
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


def _failure(trial: dict[str, str]) -> tuple[str, str, str]:
    """Entry, configuration and error of a trial that failed."""
    config = {key.partition(".")[2]: value for key, value in trial.items() if "." in key and value}
    return trial["entry"], ", ".join(f"{key} {value}" for key, value in config.items()), trial["error"]


def _pictures(entry: Entry, labelled: bool) -> list[Picture]:
    """In the order of the page: by kind, those unknown here last, then by way to sample."""
    kinds, routes = list(KINDS), list(entry.metrics["samples"])

    def place(path: Path) -> tuple[int, int]:
        kind, route = kind_of(path.stem)
        return kinds.index(kind) if kind in kinds else len(kinds), routes.index(route) if route else 0

    return [_picture(path, entry, labelled) for path in sorted(entry.pictures, key=place)]


def _picture(path: Path, entry: Entry, labelled: bool) -> Picture:
    name, route = kind_of(path.stem)
    kind = KINDS.get(name, Kind(name, chart=True, tell=lambda subject: ""))
    subject = Subject(entry.metrics, route, labelled)
    return Picture(kind.title + subject.title, kind.tell(subject), name, route, kind.chart, _uri(path.read_bytes()))


def _png(images: np.ndarray) -> bytes:
    sheet = grid(images.astype(np.float32) / 255, columns=3)
    file = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(file, "PNG")
    return file.getvalue()


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
