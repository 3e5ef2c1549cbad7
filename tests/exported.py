"""An export of a small untrained model, made as the pipeline makes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from latentmill import registry
from latentmill.config import FormatName
from latentmill.contract import Decodes, HasCodebook
from latentmill.export import latency
from latentmill.export.manifest import manifest
from latentmill.export.writer import TrainedPair, TrainingData, write_export
from latentmill.networks import Shape
from latentmill.registry import Family
from latentmill.trials.trained_model import TrainedModel

VERDICT = {"status": "pass", "evidence": "none", "samples": 1}
SAMPLES = {"rule_1": VERDICT, "rule_2": VERDICT, "metrics": {}}
SAMPLES |= {"near_copies": {"share": 0.0, "low": 0.0, "high": 0.0, "held_out": 0.0}}
DATA = {"source": "noise", "description": "noise", "counts": {"train": 50}, "digest": "b" * 64}


CLASSES, IMAGES = ["cat", "dog, wet", "rare"], 50
LABELS = np.arange(IMAGES) * 7 % 10 // 4  # 20 cats, 20 dogs, 10 rare


def export(
    name: str,
    config: dict[str, object],
    shape: tuple[int, int, int],
    folder: Path,
    prior: str = "normal",
    prior_config: dict[str, object] | None = None,
    tolerances: dict[FormatName, float] | None = None,
) -> Path:
    """An export of the model of this name, its codes from the prior if it has any."""
    torch.manual_seed(0)
    model = trained("models", name, config, shape)
    pair = TrainedPair(model)
    if isinstance(model.model, Decodes):
        entries = model.model.entries if isinstance(model.model, HasCodebook) else 0
        pair = TrainedPair(model, trained("priors", prior, prior_config or {}, model.model.code_shape, entries))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    data = TrainingData(images, LABELS, images, DATA, CLASSES, LABELS)
    metrics = {"samples": {prior: SAMPLES}, "exported_prior": prior}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0)
        patch.setattr(latency, "LEAST", 1)
        write_export(pair, name, metrics, data, folder, tolerances or {})
    return folder


def trained(family: Family, name: str, config: dict[str, object], shape: Shape, entries: int = 0) -> TrainedModel:
    """One as it is before training."""
    model = registry.build(family, name, config, shape, len(CLASSES), entries).eval()
    trial = {"model": name, "config": model.Config.model_validate(config).model_dump()}
    digests = {"fingerprint": "12345e6", "data_digest": "b" * 64, "weights_sha256": "c" * 64}
    return TrainedModel(model, {"trial": trial, "shape": list(shape), **digests})


def seal(folder: Path) -> None:
    """Name in the manifest what the folder holds now."""
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest(folder)))
