"""What a trial is: a model to train, from hyperparameters and a seed alone."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill import models
from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.trials import code

# Of what a worker runs, the files that can't change what a trial comes to, and why.
NO_EFFECT = {
    "__init__.py": "it says what an application may import",
    "config.py": "what it declares enters the fingerprint by value, and its other sections train nothing",
    "errors.py": "it prints errors",
    "files.py": "it writes bytes that are given",
    "memory.py": "it tells whether an error is for want of memory; such a trial is not finished",
    "storage.py": "it reads and writes bytes that are checked by a digest",
    "cluster/__init__.py": "settings of Ray",
    "cluster/connection.py": "it finds the cluster",
    "cluster/mapped.py": "images that are in the fingerprint, checked to be the same",
    "trials/code.py": "it is the digest",
}


@dataclass(frozen=True)
class Trial:
    """One model to train: a variant, its hyperparameters, how to optimise them, and the seed of all randomness."""

    variant: str
    model: dict[str, Any]  # complete, as the variant's `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed-form variant
    seed: int

    @property
    def shape(self) -> str | None:
        """Equal for trials that can be one program: those that differ in real numbers, the seed and when to end.

        By the contract of a variant such numbers are tensors. None for a closed-form variant, which has no steps.
        """
        if self.training is None:
            return None
        fixed = {key: value for key, value in self.model.items() if not isinstance(value, float)}
        fixed |= {key: self.training[key] for key in ("batch_size", "precision")}
        return json.dumps([self.variant, fixed], sort_keys=True)

    def fingerprint(self, data_digest: str) -> str:
        """16 hexadecimal digits that name this trial on this data, under the present code and libraries."""
        content = {"trial": self.__dict__, "data": data_digest}
        content |= {"code": code_digest(self.variant), "libraries": libraries()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def identity(trial: Trial, fingerprint: str, data_digest: str) -> dict[str, Any]:
    """What a record says of which trial it is of."""
    return {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}


@cache
def code_digest(variant: str) -> str:
    """The digest of the code that trains `variant`."""
    return code.digest(code_files(variant))


def code_files(variant: str) -> set[Path]:
    """All that a worker runs to train `variant`, but for other variants and `NO_EFFECT`."""
    package = code.SOURCE / "latentmill"
    own, without = package / "models" / f"{variant}.py", {package / name for name in NO_EFFECT}
    files = code.imported_files(own, package / "cluster" / "worker.py", but=without, by_name=True)
    return {path for path in files if path.parent != own.parent or path in (own, own.with_name("__init__.py"))}


@cache
def libraries() -> dict[str, str]:
    """The versions of what computes a trial, without what a build adds to them: `2.13.0` of `2.13.0+cpu`."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    return {name: each.partition("+")[0] for name, each in found.items()}


def model_of(trial: Trial, images: Batches) -> Model:
    """The weights that the trial starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        return models.build(trial.variant, trial.model, images.image_shape).to(images.device)


def config_of(trial: Trial) -> TrainingConfig:
    return TrainingConfig.model_validate(trial.training)
