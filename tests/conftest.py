"""What several tests share: small real images, and small models of every variant."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from sites import LADDER, ROOT, SECTIONS, Site
from sklearn.datasets import load_digits

import latentmill.cluster  # noqa: F401  # its settings, before any test imports ray
from latentmill import models
from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.training.loop import Fitted, complete, train

torch.set_num_threads(1)  # models this small only lose by a second thread, most of all beside another process

# Files that take long start first, so that none is left to one process when the others have nothing more to do.
LONGEST = ("test_submit", "test_pipeline", "test_kills", "test_sweep", "test_team", "test_rules", "test_browser")
IMAGE_SHAPE = (1, 8, 8)
# One small configuration of each kind of model that the tests loop over: variant -> configurations. A variant that is
# not named here is tested with its defaults.
CONFIGS = {
    "ppca": [{"latent": 5, "components": 3}, {"latent": 5, "components": 3, "prior": "mixture"}],
    "autoencoder": [{"latent": 3, "corruption": 0.25, "prior": "mixture"}, {"latent": 3, "network": "conv"}],
    "vae": [{"latent": 3}, {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0}],
}
CASES = [(name, config) for name in models.names() for config in CONFIGS.get(name, [{}])]
each_variant = pytest.mark.parametrize(("name", "config"), CASES, ids=str)
TRAINING = TrainingConfig(epochs=3, batch_size=50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """600 digits, uint8 (600, 1, 8, 8)."""
    images = load_digits().images[:600]
    return np.rint(images / 16 * 255).astype(np.uint8)[:, None]


@pytest.fixture(scope="session")
def trained(digits) -> Callable[[str, dict[str, object]], tuple[Model, Fitted]]:
    """Each case, trained for 3 epochs on 500 digits when first asked for: (model, what training left)."""
    images, val = Batches(digits[:500]), Batches(digits[500:])
    made = {}

    def trained(name, config):
        if str((name, config)) not in made:
            model = build(name, config)
            training = None if model.closed_form else TRAINING
            made[str((name, config))] = model, train(model, images, val, training, seed=0)
            complete(model, images, val, seed=0)
        return made[str((name, config))]

    return trained


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The digits, prepared."""
    root = tmp_path_factory.mktemp("prepared")
    YAML().dump(SECTIONS | {"ladder": LADDER, "train": {}}, root / "params.yaml")
    subprocess.run([sys.executable, ROOT / "pipeline/prepare.py"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    return root / "data/prepared"


@pytest.fixture(scope="session")
def undisturbed(prepared, tmp_path_factory):
    """A site whose sweep nothing happens to."""
    site = Site(tmp_path_factory.mktemp("undisturbed")).prepare(prepared)
    site.run()
    assert len(site.weights()) == 4
    return site


@pytest.fixture
def site(prepared, tmp_path):
    return Site(tmp_path).prepare(prepared)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The module of a stage, in an empty folder."""

    def imported(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / f"pipeline/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    monkeypatch.chdir(tmp_path)
    return imported


def build(name: str, config: dict[str, object], seed: int = 0) -> Model:
    """An untrained model on 8x8 images."""
    torch.manual_seed(seed)
    return models.build(name, config, IMAGE_SHAPE)
