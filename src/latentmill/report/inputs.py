"""All that the page tells, read from what the other stages wrote."""

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
from latentmill.data.dataset import read_manifest, read_split
from latentmill.errors import InputError

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
    """How a trial learned."""

    entry: str
    trial: str
    epochs: list[int]
    losses: list[float]  # on validation images, one an epoch


@dataclass(frozen=True)
class Entry:
    """One rung of the ladder."""

    name: str
    space: Json  # what params.yaml says of it
    record: Json  # of its winner: trial, criterion, history, seconds
    metrics: Json
    galleries: Json  # by way to sample: pixel distances of each shown sample to its nearest training images
    files: Json  # name of each exported file -> its size and largest difference from torch
    forms: Json  # of the decoder, as they were asked for -> what was found of each
    pictures: list[Path]


@dataclass(frozen=True)
class Inputs:
    """What the page is made of."""

    manifest: Json
    test: np.ndarray  # uint8 (N, C, H, W)
    trials: list[dict[str, str]]  # the rows of trials.csv
    curves: list[Curve]  # of the winners that learn by steps
    calibration: Json  # what each measure made of controls whose answer is known
    entries: list[Entry]
    champion: str  # the entry that goes out under that name
    samples: int  # drawn from each model, in each way


def read_inputs(params: Params, places: Places) -> Inputs:
    """Read everything, the entries in the order of the ladder.

    Raises:
        InputError: something is missing or damaged; the message names the stage that writes it.
    """
    manifest, test = read_manifest(places.data), read_split(places.data, "test")
    trials = list(csv.DictReader(io.StringIO(_read(places.trials, "train"))))
    curves = list(_read_curves(places.curves))
    metrics = _read_json(places.evaluation / "metrics.json", "evaluate")
    missing = [name for name in params.ladder if name not in metrics]
    if missing:
        raise InputError(f"metrics.json must hold every ladder entry, but lacks {missing[0]!r}: run the stage evaluate")
    calibration = _read_json(places.evaluation / "calibration.json", "evaluate")
    galleries = _read_json(places.evaluation / "galleries.json", "evaluate")
    entries = [
        _read_entry(name, space, metrics[name], galleries.get(name, {}), places)
        for name, space in params.ladder.items()
    ]
    champion = _read_json(places.exports / RESERVED / "card.json", "champion")["entry"]
    return Inputs(manifest, test, trials, curves, calibration, entries, champion, params.evaluation.samples)


def _read_entry(name: str, space: Json, metrics: Json, galleries: Json, places: Places) -> Entry:
    folder = places.evaluation / "pictures" / name
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise InputError(f"{folder} must hold pictures, but has none: run the stage evaluate")
    record = _read_json(places.models / name / "trial.json", "train")
    card = _read_json(places.exports / name / "card.json", "export")
    return Entry(name, space, record, metrics, galleries, card["files"], card["forms"], pictures)


def _read_curves(path: Path) -> Iterator[Curve]:
    """The rows of one trial stand together."""
    rows = csv.DictReader(io.StringIO(_read(path, "train")))
    try:
        for (entry, trial), steps in groupby(rows, key=lambda row: (row["entry"], row["trial"])):
            points = [(int(step["epoch"]), float(step["val_loss"])) for step in steps]
            shown = [(epoch, loss) for epoch, loss in points if isfinite(loss)]
            yield Curve(entry, trial, [epoch for epoch, _ in shown], [loss for _, loss in shown])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} must have numbers under entry, trial, epoch and val_loss, but: {error}; run the stage train"
        ) from None


def _read_json(path: Path, stage: str) -> Json:
    try:
        content = json.loads(_read(path, stage))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} must be JSON, but: {error}; run the stage {stage}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a JSON object, but got a {type(content).__name__}; run the stage {stage}")
    return content


def _read(path: Path, stage: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} must be a readable file, but: {error.strerror}; run the stage {stage}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text, but: {error}; run the stage {stage}") from None
