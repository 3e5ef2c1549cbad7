"""Prepared data sets made by hand, for tests that need one and none of the stages before."""

from pathlib import Path
from typing import Any

import numpy as np

from latentmill.data import dataset
from latentmill.files import write_json


def write(
    folder: Path, images: dict[str, Any], labels: dict[str, Any] | None = None, **manifest: Any
) -> dict[str, Any]:
    """Images by split, uint8 N×C×H×W, and labels, N, with what `manifest` says beside or instead."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {
        name: dataset.write_images(folder / f"{name}.npy", each, np.arange(len(each)), each.shape[1])
        for name, each in images.items()
    }
    for name, each in (labels or {}).items():
        digests[f"{name}_labels"] = dataset.write_labels(folder / f"{name}_labels.npy", np.asarray(each, np.int64))
    known = sorted({int(label) for each in (labels or {}).values() for label in each})
    classes = [str(label) for label in known] if labels else None
    content = {
        "source": "digits",
        "description": "small digits",
        "shape": list(images["train"].shape[1:]),
        "counts": {name: len(each) for name, each in images.items()},
        "classes": classes,
        "class_counts": {},
        "duplicates_dropped": dict.fromkeys(images, 0),
        "too_small_for": [],
        "notes": [],
        "digests": digests,
        "digest": dataset.combined_digest(digests, classes),
    }
    write_json(folder / dataset.MANIFEST, content | manifest)
    return content | manifest
