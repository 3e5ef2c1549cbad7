"""A trial: a model to train, defined by its hyperparameters and a seed."""

import hashlib
import importlib
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
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

ALWAYS = ("python", "numpy", "torch")  # the libraries that train everything
SOME = {"sklearn": "scikit-learn"}  # those that only some models or priors import -> what they are installed as
# The files of a worker that can't change the result of a trial, and why.
NO_EFFECT = {
    "__init__.py": "it lists what an application may import",
    "config.py": "the values of a trial enter its fingerprint, and other sections train nothing",
    "errors.py": "it prints errors",
    "files.py": "it writes bytes",
    "memory.py": "it recognises errors of too little memory; such a trial is not finished",
    "stage.py": "it notices edits",
    "storage.py": "it reads and writes bytes that are checked by a digest",
    "cluster/__init__.py": "settings of Ray",
    "runtime/partial.py": "it names files that are not complete",
    "runtime/regular_file.py": "it reads bytes that are checked by a digest",
    "runtime/text.py": "it prints",
    "trials/code.py": "it computes the digest",
    "trials/earlier.py": "it reads bytes that are checked by a digest",
    "yaml_file.py": "it reads params.yaml; the values of a trial enter its fingerprint",
}


@dataclass(frozen=True)
class Trial:
    """One model to train: its name, hyperparameters, how they are optimised, and the seed of all randomness."""

    model: str  # or the prior, if there is a `parent`
    config: dict[str, Any]  # complete, as its `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed form
    seed: int
    features: str | None = None  # the digest of those that rank it; None: it is ranked by its criterion
    parent: str | None = None  # for a prior: the fingerprint of the model's trial
    start: str | None = None  # the digest of the weights that it begins with; None: those that its seed draws

    @property
    def family(self) -> Family:
        return "models" if self.parent is None else "priors"

    @property
    def shape(self) -> str | None:
        """Equal for trials that can be packed: those that differ by real numbers, seed and length.

        By the contract such numbers are tensors. None for a closed form, which has no steps.
        """
        if self.training is None:
            return None
        return json.dumps([self.model, self.features, self.parent, self.fixed], sort_keys=True)

    @property
    def fixed(self) -> dict[str, Any]:
        """What decides the form of a step: of real numbers only whether they are 0, which may leave a part out."""
        fixed = {key: bool(value) if isinstance(value, float) else value for key, value in self.config.items()}
        return fixed | {key: (self.training or {}).get(key) for key in ("batch_size", "precision", "augment")}

    def fingerprint(self, data_digest: str) -> str:
        """16 hexadecimal digits that identify this trial on this data, with the present code and libraries."""
        content = {"trial": self.__dict__, "data": data_digest, "code": code_digest(self.family, self.model)}
        used = {*ALWAYS, *imported_packages(self.family, self.model)}
        content |= {"libraries": {name: version for name, version in libraries().items() if name in used}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def build_model(self, examples: Batches, classes: int) -> Model:
        """The model with the trial's initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = registry.build(self.family, self.model, self.config, examples.shape, classes, examples.entries)
        return model.to(examples.device)

    @property
    def training_config(self) -> TrainingConfig:
        """Of a trial with `training`."""
        return TrainingConfig.model_validate(self.training)


def identity(trial: Trial, fingerprint: str, data_digest: str) -> dict[str, Any]:
    """The part of a record that identifies its trial."""
    return {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}


@cache
def code_digest(family: Family, name: str) -> str:
    """The digest of the code that trains a model or prior."""
    return code.digest(code_files(family, name))


def import_code(family: Family, name: str) -> None:
    """Import all that trains a model or prior, so that a later edit is without effect in this process."""
    for path in code_files(family, name):
        parts = path.relative_to(code.SOURCE).with_suffix("").parts
        importlib.import_module(".".join(part for part in parts if part != "__init__"))


@cache
def imported_packages(family: Family, name: str) -> set[str]:
    """The names of all packages that a worker imports to train a model or prior."""
    return code.imported_packages(code_files(family, name))


def code_files(family: Family, name: str) -> set[Path]:
    """All that a worker runs to train it, except `NO_EFFECT`. No import leads to other models and priors."""
    package = code.SOURCE / "latentmill"
    without = {package / each for each in NO_EFFECT}
    own = package / family / f"{name}.py"
    return code.imported_files(own, package / "cluster" / "worker.py", excluding=without, by_name=True)


@cache
def libraries() -> dict[str, str]:
    """The versions of the libraries that train, without local suffixes: `2.13.0` of `2.13.0+cpu`.

    By the names under which they are imported.
    """
    found = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    found |= {name: version(distribution) for name, distribution in SOME.items()}
    return {name: each.partition("+")[0] for name, each in found.items()}
