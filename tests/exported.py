"""An export of a small untrained model, made as the pipeline makes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from latentmill import models
from latentmill.export import latency
from latentmill.export.manifest import manifest
from latentmill.export.writer import TrainingData, write_export
from latentmill.trials.trained_model import TrainedModel

VERDICT = {"status": "pass", "evidence": "none", "samples": 1}
SAMPLES = {"rule_1": VERDICT, "rule_2": VERDICT, "metrics": {}}
SAMPLES |= {"near_copies": {"share": 0.0, "low": 0.0, "high": 0.0, "held_out": 0.0}}
DATA = {"source": "noise", "description": "noise", "counts": {"train": 50}, "digest": "b" * 64}


def export(variant: str, config: dict[str, object], shape: tuple[int, int, int], folder: Path) -> Path:
    torch.manual_seed(0)
    model = models.build(variant, config, shape)
    trial = {"variant": variant, "model": model.Config.model_validate(config).model_dump()}
    digests = {"fingerprint": "12345e6", "data_digest": "b" * 64, "weights_sha256": "c" * 64}
    trained = TrainedModel(model, {"trial": trial, "image_shape": list(shape), **digests})
    images = np.random.default_rng(0).integers(0, 256, (50, *shape), dtype=np.uint8)
    metrics = {"samples": {"normal": SAMPLES}, "exported_prior": "normal"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0)
        patch.setattr(latency, "LEAST", 1)
        write_export(trained, variant, metrics, TrainingData(images, None, images, DATA), folder, tolerances={})
    return folder


def seal(folder: Path) -> None:
    """Name in the manifest what the folder holds now."""
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest(folder)))
