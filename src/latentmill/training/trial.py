"""What a trial is: a model to train, from hyperparameters and a seed alone."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from latentmill import variants
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.training import code
from latentmill.variant import Variant


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
        """16 hexadecimal digits that name this trial on this data under the present code."""
        content = {"trial": self.__dict__, "data": data_digest, "code": code_digest(self.variant)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_digest(variant: str) -> str:
    """The digest of the code that trains `variant`.

    config.py is left out: what it declares enters the fingerprint by value, and its other sections train nothing.
    """
    package = code.SOURCE / "latentmill"
    files = code.imported_files(package / "variants" / f"{variant}.py", package / "training" / "loop.py")
    return code.digest(files - {package / "config.py"})


def model_of(trial: Trial, images: Batches) -> Variant:
    """The weights that the trial starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        return variants.build(trial.variant, trial.model, images.image_shape).to(images.device)


def config_of(trial: Trial) -> TrainingConfig:
    return TrainingConfig.model_validate(trial.training)


def with_half_the_batch(trial: Trial) -> Trial | None:
    """None where there is no batch to halve."""
    if trial.training is None or trial.training["batch_size"] == 1:
        return None
    return replace(trial, training=trial.training | {"batch_size": trial.training["batch_size"] // 2})
