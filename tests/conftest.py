"""What several tests share: small real images, and small models of every kind."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from faults_summary import pytest_terminal_summary, pytest_unconfigure  # noqa: F401  # hooks
from ruamel.yaml import YAML
from sites import LADDER, ROOT, SECTIONS, Site
from sklearn.datasets import load_digits

import latentmill.cluster  # noqa: F401  # its settings, before any test imports ray
from latentmill import registry
from latentmill.codes import Generator
from latentmill.config import TrainingConfig
from latentmill.contract import Generates, HasCodebook, HasCriterion, Model
from latentmill.data.batches import Batches
from latentmill.features import perceptual
from latentmill.training.loop import Fitted, Setup, train

perceptual.STEPS = 10  # of what many tests fit anew
torch.set_num_threads(1)  # models this small only lose by a second thread, most of all beside another process

# Files that take long start first, so that none is left to one process when the others have nothing more to do.
LONGEST = (
    "test_slurm",
    "test_submit",
    "test_pipeline",
    "test_kills",
    "test_sweep",
    "test_ranks",
    "test_rules",
    "test_browser",
)
IMAGE_SHAPE = (1, 8, 8)
SMALL_IMAGES = {"latent": 2, "network": "residual", "channels": 8, "code": "image"}  # as codes, of 2x2
# One small configuration of each model that the tests loop over: model -> configurations. A model that is not named
# here is tested with its defaults.
CONFIGS = {
    "ppca": [{"latent": 5}],
    "autoencoder": [{"latent": 3, "corruption": 0.25}, {"latent": 3, "network": "conv"}],
    "vae": [
        {"latent": 3},
        {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0},
        {"latent": 3, "hidden": 50, "observation": "gaussian", "perceptual": 0.3},
        SMALL_IMAGES | {"attention": True, "observation": "discretized_logistic"},
    ],
    "iwae": [{"latent": 3, "hidden": 50}, {"latent": 3, "hidden": 50, "objective": "piwae", "groups": 2, "codes": 3}],
    "beta_tc": [{"latent": 3, "hidden": 50}],
    "dip_vae": [{"latent": 3, "hidden": 50}, {"latent": 3, "hidden": 50, "covariance": "means"}],
    "info_vae": [{"latent": 3, "hidden": 50}, {"latent": 3, "hidden": 50, "kl": 0, "draws": False}],
    "rae": [{"latent": 3, "hidden": 50}],
    "factor_vae": [{"latent": 3, "hidden": 50, "critic": 20}],
    "vamp_vae": [{"latent": 3, "hidden": 50, "components": 7}],
    "coupling_vae": [{"latent": 3, "hidden": 50, "layers": 3, "units": 20}],
    "aae": [{"latent": 3, "hidden": 50, "critic": 20}],
    "ladder_vae": [{"layers": [4, 3, 2], "hidden": 50, "units": 20}],
    "categorical_vae": [{"variables": 5, "entries": 3, "hidden": 50}],
    "vae_gan": [{"latent": 3, "hidden": 50}],
    "conditional_vae": [{"latent": 3, "hidden": 50}, SMALL_IMAGES],
    "rbm": [{"hidden": 20, "chains": 70}, {"hidden": 20, "learning": "contrastive", "steps": 2, "sampling_steps": 1}],
    "dbn": [{"hidden": 20, "top": 10, "greedy": 1, "sampling_steps": 3}],
    "dbm": [{"hidden": 20, "top": 10, "greedy": 1, "sampling_steps": 3}],
    "made": [{"hidden": 30}],
    "pixel_cnn": [{"channels": 6, "depth": 2}],
    "factor_analysis": [{"latent": 4}],
    "mixture_of_factor_analysers": [{"latent": 2, "components": 3}],
    "bernoulli_mixture": [{"components": 4}, {}],
    "gan": [{"latent": 3, "hidden": 50}],
    "fsq": [{"levels": [4, 3], "channels": 8}],
    "vq": [{"entries": 12, "latent": 4, "channels": 8}],
}
CASES = [(name, config) for name in registry.names("models") for config in CONFIGS.get(name, [{}])]
FURTHER = ("rbm", "iwae", "dip_vae", "info_vae", "bernoulli_mixture")  # whose other configurations are slow tests


def is_further(name: str, config: dict[str, object]) -> bool:
    return config != CONFIGS.get(name, [{}])[0]


SECOND = [case for case in CASES if case[0] in FURTHER and is_further(*case)]
each_model = pytest.mark.parametrize(
    ("name", "config"),
    [pytest.param(*case, marks=pytest.mark.slow if case in SECOND else ()) for case in CASES],
    ids=str,
)
# These encode, draw and decode as another does: what follows their training is tested in slow tests.
ALIKE = {
    "vae": ("beta_tc", "dip_vae", "factor_vae", "info_vae", "iwae", "aae", "vae_gan"),
    "autoencoder": ("rae",),
    "vamp_vae": ("coupling_vae",),
    "vq": ("fsq",),
    "rbm": ("dbn", "dbm"),
    "pixel_cnn": ("made",),
    "naive_bayes": ("bernoulli_mixture",),
    "ppca": ("factor_analysis", "mixture_of_factor_analysers"),
}
DISTINCT = [SMALL_IMAGES | {"attention": True, "observation": "discretized_logistic"}]  # of further configurations


def is_alike(name: str, config: dict[str, object]) -> bool:
    return (is_further(name, config) and config not in DISTINCT) or any(name in others for others in ALIKE.values())


each_after_training = pytest.mark.parametrize(
    ("name", "config"),
    [pytest.param(*case, marks=pytest.mark.slow if is_alike(*case) else ()) for case in CASES],
    ids=str,
)
CLASSES = 10
TRAINING = TrainingConfig(epochs=3, batch_size=50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """600 digits, uint8 (600, 1, 8, 8)."""
    images = load_digits().images[:600]
    return np.rint(images / 16 * 255).astype(np.uint8)[:, None]


@pytest.fixture(scope="session")
def shuffled_digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits, uint8 (N, 1, 8, 8), and their labels, in a random order: in their file they have another."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    return np.rint(found.images / 16 * 255).astype(np.uint8)[order, None], found.target[order]


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    """What digit each of them is, int64 (600)."""
    return load_digits().target[:600].astype(np.int64)


@pytest.fixture(scope="session")
def setup(digits, labels) -> Setup:
    """500 digits for training, 100 for validation."""
    val = Batches(digits[500:], labels=labels[500:])
    return Setup(Batches(digits[:500], labels=labels[:500]), val)


def mean_distance(model: Model, val: Batches) -> float:
    """How far the mean of a few samples is from that of validation images: a ranking that is soon computed."""
    generator = Generator(
        model, None if isinstance(model, Generates) else registry.build("priors", "normal", {}, model.code_shape)
    )
    noise = torch.randn(50, generator.noise_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((generator(noise)[0].mean(0) - val[:].mean(0)).square().sum())


def setup_for(model: Model, setup: Setup) -> Setup:
    """With a distance, where the model has no criterion."""
    if isinstance(model, HasCriterion):
        return setup
    return replace(setup, distance=lambda each: mean_distance(each, setup.val))


@pytest.fixture(scope="session")
def trained(setup) -> Callable[[str, dict[str, object]], tuple[Model, Fitted]]:
    """Each case, trained for 3 epochs on 500 digits when first asked for: (model, what training left)."""
    made = {}

    def trained(name, config):
        if str((name, config)) not in made:
            model = build(name, config)
            training = None if model.closed_form else TRAINING
            made[str((name, config))] = model, train(model, setup_for(model, setup), training, seed=0)
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


def random_codes(model: Model, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Codes (count, …) that a model can decode."""
    shape = (count, *model.code_shape)
    if isinstance(model, HasCodebook):
        return torch.randint(model.entries, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def build(name: str, config: dict[str, object], seed: int = 0, classes: int = CLASSES) -> Model:
    """An untrained model on 8x8 images."""
    torch.manual_seed(seed)
    return registry.build("models", name, config, IMAGE_SHAPE, classes)


@pytest.fixture(scope="module")
def without_curves():
    """Equivalent damage has tests of its own, in test_damage.py, and takes a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fidelity_curves", "copy_curves"):
            patch.setattr(f"latentmill.evaluation.calibrator.{name}", lambda *given: [])
        yield
