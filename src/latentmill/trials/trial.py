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

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.registry import Family
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
    """One model to train: its name, hyperparameters, how they are optimised, and the seed of all randomness."""

    model: str  # the name of a model, or with a `parent` of a prior
    config: dict[str, Any]  # complete, as its `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed form
    seed: int
    features: str | None = None  # the digest of those in which samples are compared; None: ranked by the criterion
    parent: str | None = None  # for a prior: the fingerprint of the trial of whose codes it is

    @property
    def family(self) -> Family:
        return "models" if self.parent is None else "priors"

    @property
    def shape(self) -> str | None:
        """Equal for trials that can be packed: those that differ in real numbers, the seed and when to end.

        By the contract such numbers are tensors. None for a closed form, which has no steps.
        """
        if self.training is None:
            return None
        fixed = {key: value for key, value in self.config.items() if not isinstance(value, float)}
        fixed |= {key: self.training[key] for key in ("batch_size", "precision")}
        return json.dumps([self.model, self.features, self.parent, fixed], sort_keys=True)

    def fingerprint(self, data_digest: str) -> str:
        """16 hexadecimal digits that name this trial on this data, under the present code and libraries."""
        content = {"trial": self.__dict__, "data": data_digest}
        content |= {"code": code_digest(self.family, self.model), "libraries": libraries()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def identity(trial: Trial, fingerprint: str, data_digest: str) -> dict[str, Any]:
    """What a record says of which trial it is of."""
    return {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}


@cache
def code_digest(family: Family, name: str) -> str:
    """The digest of the code that trains a model or prior."""
    return code.digest(code_files(family, name))


def code_files(family: Family, name: str) -> set[Path]:
    """All that a worker runs to train it, but for `NO_EFFECT`. No import leads to other models and priors."""
    package = code.SOURCE / "latentmill"
    without = {package / each for each in NO_EFFECT}
    own = package / family / f"{name}.py"
    return code.imported_files(own, package / "cluster" / "worker.py", but=without, by_name=True)


@cache
def libraries() -> dict[str, str]:
    """The versions of what computes a trial, without what a build adds to them: `2.13.0` of `2.13.0+cpu`."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    return {name: each.partition("+")[0] for name, each in found.items()}


def model_of(trial: Trial, examples: Batches, classes: int) -> Model:
    """The weights that the trial starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        model = registry.build(trial.family, trial.model, trial.config, examples.shape, classes)
    return model.to(examples.device)


def config_of(trial: Trial) -> TrainingConfig:
    return TrainingConfig.model_validate(trial.training)
