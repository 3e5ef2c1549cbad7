"""Trials and the store that keeps the finished ones, so that nothing is trained twice."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from latentmill import variants
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.files import replacing_folder
from latentmill.nets import ImageShape
from latentmill.training import checkpoint, code
from latentmill.training.loop import train


@dataclass(frozen=True)
class Trial:
    """One model to train: a variant, its hyperparameters, how to optimise them, and the seed of all randomness."""

    variant: str
    model: dict[str, Any]  # complete, as the variant's `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed-form variant
    seed: int

    def fingerprint(self, data_digest: str) -> str:
        """16 hexadecimal digits that name this trial on this data under the present code."""
        content = {"trial": asdict(self), "data": data_digest, "code": code_digest(self.variant)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_digest(variant: str) -> str:
    """The digest of the code that trains `variant`.

    config.py is left out: what it declares enters the fingerprint by value, and its other sections train nothing.
    """
    package = code.SOURCE / "latentmill"
    files = code.imported_files(package / "variants" / f"{variant}.py", package / "training" / "loop.py")
    return code.digest(files - {package / "config.py"})


class TrialStore:
    """A folder with one subfolder a finished trial, named by its fingerprint."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def folder(self, fingerprint: str) -> Path:
        return self.root / fingerprint

    def find(self, fingerprint: str) -> dict[str, Any] | None:
        """The record of a finished trial; None where there is none, or a damaged one, which counts as none."""
        try:
            return checkpoint.read_record(self.folder(fingerprint))
        except InputError:
            return None


def run(trial: Trial, train_images: Batches, val_images: Batches, data_digest: str, store: TrialStore) -> None:
    """Train and keep one trial; it stands in the store whole or not at all.

    Raises:
        DivergedError: the loss became NaN or infinite.
        InputError: the hyperparameters do not fit the data.
    """
    started = time.perf_counter()
    image_shape: ImageShape = train_images.image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        model = variants.build(trial.variant, trial.model, image_shape).to(train_images.device)
    config = TrainingConfig.model_validate(trial.training) if trial.training else None
    fitted = train(model, train_images, val_images, config, trial.seed)
    record = {
        "fingerprint": trial.fingerprint(data_digest),
        "trial": asdict(trial),
        "data_digest": data_digest,
        "image_shape": image_shape,
        "device": str(train_images.device),
        "seconds": round(time.perf_counter() - started, 2),
        **asdict(fitted),
    }
    with replacing_folder(store.folder(record["fingerprint"])) as folder:
        checkpoint.save(folder, model, record)
