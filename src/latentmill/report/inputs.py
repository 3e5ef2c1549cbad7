"""All that the page tells, read from what the other stages wrote."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import Params
from latentmill.data.dataset import read_manifest, read_split
from latentmill.errors import InputError

Json = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where the other stages left their outputs."""

    data: Path
    trials: Path
    models: Path
    evaluation: Path
    exports: Path


@dataclass(frozen=True)
class Entry:
    """One rung of the ladder."""

    name: str
    space: Json  # what params.yaml says of it
    record: Json  # of its winner: trial, criterion, history, seconds
    metrics: Json
    files: Json  # name of each exported file -> its size and largest difference from torch
    pictures: list[Path]


@dataclass(frozen=True)
class Inputs:
    """What the page is made of."""

    manifest: Json
    test: np.ndarray  # uint8 (N, C, H, W)
    trials: list[dict[str, str]]  # the rows of trials.csv
    entries: list[Entry]
    samples: int  # drawn from each model, in each way


def read_inputs(params: Params, places: Places) -> Inputs:
    """Read everything, the entries in the order of the ladder.

    Raises:
        InputError: something is missing or damaged; the message names the stage that writes it.
    """
    manifest, test = read_manifest(places.data), read_split(places.data, "test")
    trials = list(csv.DictReader(io.StringIO(_read(places.trials, "train"))))
    metrics = _read_json(places.evaluation / "metrics.json", "evaluate")
    missing = [name for name in params.ladder if name not in metrics]
    if missing:
        raise InputError(f"metrics.json must hold every ladder entry, but lacks {missing[0]!r}: run the stage evaluate")
    entries = [_read_entry(name, space, metrics[name], places) for name, space in params.ladder.items()]
    return Inputs(manifest, test, trials, entries, params.evaluation.samples)


def _read_entry(name: str, space: Json, metrics: Json, places: Places) -> Entry:
    folder = places.evaluation / "pictures" / name
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise InputError(f"{folder} must hold pictures, but has none: run the stage evaluate")
    record = _read_json(places.models / name / "trial.json", "train")
    files = _read_json(places.exports / name / "card.json", "export")["files"]
    return Entry(name, space, record, metrics, files, pictures)


def _read_json(path: Path, stage: str) -> Json:
    try:
        content: Json = json.loads(_read(path, stage))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} must be JSON, but: {error}; run the stage {stage}") from None
    return content


def _read(path: Path, stage: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} must be a readable file, but: {error.strerror}; run the stage {stage}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text, but: {error}; run the stage {stage}") from None
