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
from latentmill.trials.code import SOURCE, digest, imported_files

WRITER = SOURCE / "latentmill" / "export" / "entry.py"  # its imports are the code that writes exports
LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch")
TRAINING_DATA = ("manifest.json", "train_labels.npy")  # the manifest has the digests of the images

Json = dict[str, Any]


def inputs_digest(entry: str, variant: str, model: Path, data: Path, metrics: Json, config: ExportConfig) -> str:
    """SHA-256 of everything that can change the export of an entry, or its refusal.

    Args:
        entry: its name on the ladder.
        variant: the name of its variant.
        model: the folder of its trained model, or of its failure.
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
        "code": digest(imported_files(WRITER, *_variant_file(variant))),
        "model": dict(_files(*sorted(model.glob("*")))),
        "data": dict(_files(*(data / name for name in TRAINING_DATA))),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _variant_file(name: str) -> list[Path]:
    """Variants are found by name, so no import leads to them."""
    path = SOURCE / "latentmill" / "models" / f"{name}.py"
    return [path] if path.exists() else []


def _files(*paths: Path) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                yield path.name, hashlib.file_digest(file, "sha256").hexdigest()
