"""The inputs of the page, read from the outputs of the other stages."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import RESERVED, Params
from latentmill.data.dataset import CONTACT_SHEET, DROPPED, read_manifest, read_split
from latentmill.errors import InputError
from latentmill.export.outcome import ExportOutcome, read_outcome

Json = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where the other stages left their outputs."""

    data: Path
    trials: Path
    curves: Path
    models: Path
    evaluation: Path
    exports: Path


@dataclass(frozen=True)
class Curve:
    """The learning curve of a trial."""

    entry: str
    trial: str
    epochs: list[int]
    losses: list[float]  # on validation images, one per epoch


@dataclass(frozen=True)
class Entry:
    """An entry of the ladder that was trained and evaluated."""

    name: str
    rank: int  # on the ladder, from 1
    space: Json  # its search space in params.yaml
    record: Json  # of its winner: trial, criterion, history, seconds
    metrics: Json
    galleries: Json  # by prior: pixel distances of each shown sample to its nearest training images
    outcome: ExportOutcome  # of its export
    pictures: list[Path]
    samples: int  # drawn under each prior

    @property
    def files(self) -> Json:
        """The name of each exported file -> its size and largest difference from torch."""
        found: Json = self.outcome.card.get("files", {})
        return found

    @property
    def formats(self) -> Json:
        """Each requested format of the decoder -> its measurements."""
        found: Json = self.outcome.card.get("formats", {})
        return found


@dataclass(frozen=True)
class Inputs:
    """Everything that the page shows."""

    manifest: Json
    test: np.ndarray  # uint8 (N, C, H, W)
    sheet: bytes | None  # a PNG of some training images, if there is one
    dropped: list[tuple[str, str]]  # name and reason of the files that are not in the prepared data set
    trials: list[dict[str, str]]  # the rows of trials.csv
    curves: list[Curve]  # of the winners that learn by steps
    calibration: Json  # the values of each metric on the controls
    entries: list[Entry]  # those that were evaluated
    failed: dict[int, ExportOutcome]  # those that were not, by their rank on the ladder
    champion: ExportOutcome
    samples: int  # drawn of each entry under each prior, where it has no number of its own
    note: str  # of whoever ran this


def read_inputs(params: Params, places: Places) -> Inputs:
    """Read everything, the entries in the order of the ladder.

    Raises:
        InputError: a file is damaged, or missing because a stage did not run; the message names it. Pictures, the
            calibration, and graphs of refused exports may be missing.
    """
    manifest, test = read_manifest(places.data), read_split(places.data, "test")
    trials = list(csv.DictReader(io.StringIO(_read(places.trials, "train"))))
    curves = list(_read_curves(places.curves))
    metrics = _read_json(places.evaluation / "metrics.json", "evaluate")
    calibration, galleries = (
        _read_optional(places.evaluation / f"{name}.json") for name in ("calibration", "galleries")
    )
    ladder = [(rank, read_outcome(places.exports, name)) for rank, name in enumerate(params.ladder, start=1)]
    failed = {
        rank: outcome
        for rank, outcome in ladder
        if outcome.status == "failed" and "samples" not in metrics.get(outcome.name, {})
    }
    entries = [
        _read_entry(rank, outcome, params, metrics, galleries.get(outcome.name, {}), places)
        for rank, outcome in ladder
        if rank not in failed
    ]
    sheet, dropped = _read_sheet(places.data / CONTACT_SHEET), _read_dropped(places.data / DROPPED)
    champion = read_outcome(places.exports, RESERVED)
    samples, note = params.evaluation.samples, params.note
    return Inputs(manifest, test, sheet, dropped, trials, curves, calibration, entries, failed, champion, samples, note)


def _read_entry(
    rank: int, outcome: ExportOutcome, params: Params, metrics: Json, galleries: Json, places: Places
) -> Entry:
    name, space = outcome.name, params.ladder[outcome.name]
    record = _read_json(places.models / name / "trial.json", "train")
    pictures = sorted((places.evaluation / "pictures" / name).glob("*.png"))
    samples = params.samples_of(name)
    return Entry(name, rank, space, record, _metrics(metrics, name), galleries, outcome, pictures, samples)


def _metrics(metrics: Json, name: str) -> Json:
    if "samples" not in metrics.get(name, {}):
        raise InputError(f"metrics.json must hold every trained entry, but lacks {name!r}: run `dvc repro evaluate`")
    found: Json = metrics[name]
    return found


def _read_sheet(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _read_dropped(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(_read(path, "prepare")))
    return [(row.get("name") or "", row.get("reason") or "") for row in rows]


def _read_optional(path: Path) -> Json:
    """Empty if the evaluation did not write it."""
    return _read_json(path, "evaluate") if path.exists() else {}


def _read_curves(path: Path) -> Iterator[Curve]:
    """The curves; the rows of one trial are adjacent."""
    rows = csv.DictReader(io.StringIO(_read(path, "train")))
    try:
        for (entry, trial), steps in groupby(rows, key=lambda row: (row["entry"], row["trial"])):
            points = [(int(step["epoch"]), float(step["val_loss"])) for step in steps]
            shown = [(epoch, loss) for epoch, loss in points if isfinite(loss)]
            yield Curve(entry, trial, [epoch for epoch, _ in shown], [loss for _, loss in shown])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} must have numbers under entry, trial, epoch and val_loss, but: {error}; run `dvc repro train`"
        ) from None


def _read_json(path: Path, stage: str) -> Json:
    try:
        content = json.loads(_read(path, stage))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} must be JSON, but: {error}; run `dvc repro {stage}`") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a JSON object, but got a {type(content).__name__}; run `dvc repro {stage}`")
    return content


def _read(path: Path, stage: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} must be a readable file, but: {error.strerror}; run `dvc repro {stage}`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text, but: {error}; run `dvc repro {stage}`") from None
