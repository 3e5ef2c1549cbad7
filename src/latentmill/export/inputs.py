"""The inputs of an entry's export, as one digest: if it is the same, the entry is not exported again.

The module needs no torch, so that a stage that has nothing to do does not wait for the import.
"""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latentmill.config import ExportConfig
from latentmill.errors import InputError
from latentmill.trials.code import SOURCE, digest, imported_files
from latentmill.trials.record import parse_record

WRITER = SOURCE / "latentmill" / "export" / "entry.py"  # its imports are the code that writes exports
LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch")
TRAINING_DATA = ("manifest.json", "train_labels.npy", "val_labels.npy")  # the manifest has the digests of the images

Json = dict[str, Any]


def inputs_digest(entry: str, model: Path, data: Path, metrics: Json, config: ExportConfig) -> str:
    """SHA-256 of everything that can change the export of an entry, or its refusal.

    Args:
        entry: its name on the ladder.
        model: the folder of its trained model and priors, or of its failure.
        data: the prepared data set.
        metrics: results of the evaluation, by entry; those of other entries do not count.
        config: only what concerns the entry counts.
    """
    inputs = {
        "entry": entry,
        "metrics": metrics.get(entry),
        "may fail Rule 2": entry in config.allow_failing,
        "formats": config.formats,
        "libraries": {name: version(name) for name in LIBRARIES},
        "code": digest(imported_files(WRITER, *_own_files(model))),
        "model": dict(_files(*sorted(model.rglob("*")), below=model)),
        "data": dict(_files(*(data / name for name in TRAINING_DATA), below=data)),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _own_files(model: Path) -> list[Path]:
    """The code of a model and of its priors: they are found by name, so no import leads to them."""
    paths = []
    for record in sorted(model.rglob("trial.json")):
        try:
            trial = parse_record(record.read_bytes(), str(record))["trial"]
            paths.append(SOURCE / "latentmill" / ("priors" if trial["parent"] else "models") / f"{trial['model']}.py")
        except (OSError, InputError, KeyError, TypeError):
            continue  # it is damaged, as the export will say
    return [path for path in paths if path.exists()]


def _files(*paths: Path, below: Path) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                yield str(path.relative_to(below)), hashlib.file_digest(file, "sha256").hexdigest()
