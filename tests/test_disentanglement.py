"""MIG and DCI: codes whose scores are known, and the factors of sprites in the evaluation of a model."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latentmill import registry
from latentmill.config import DataConfig, EvaluationConfig, TrainingConfig
from latentmill.data.batches import Batches
from latentmill.data.dataset import SPLITS, read_labels, read_split
from latentmill.data.factors import Factors, read_factors
from latentmill.data.preparation.prepare import prepare
from latentmill.evaluation import disentanglement as module
from latentmill.evaluation.disentanglement import compare, completeness, disentanglement, mutual_information_gap
from latentmill.evaluation.entry import judge_model
from latentmill.evaluation.factor_pictures import draw_importance
from latentmill.evaluation.prepared import PreparedData
from latentmill.training.loop import Setup, train

SIZES = {"shape": 3, "x": 6, "colour": 4}
CONFIG = EvaluationConfig(importance_samples=3, likelihood_images=4)


@pytest.fixture(scope="module")
def factors() -> Factors:
    """600 images with three independent factors."""
    rng = np.random.default_rng(0)
    indices = np.stack([rng.integers(size, size=600) for size in SIZES.values()], axis=1)
    return Factors({name: [str(value) for value in range(size)] for name, size in SIZES.items()}, indices)


def standardised(factors: Factors) -> np.ndarray:
    return (factors.indices - factors.indices.mean(0)) / factors.indices.std(0)


def scores(z: np.ndarray, factors: Factors) -> SimpleNamespace:
    found = compare(z.astype(np.float32), factors, seed=0)
    assert found is not None
    return SimpleNamespace(**found.metrics())


@pytest.mark.parametrize("seed", [0, 1])
def test_codes_that_are_the_factors_score_one_in_any_order_and_scale(factors, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=0.05, size=(600, 3))
    z = (standardised(factors) + noise)[:, rng.permutation(3)] * [1, -10, 0.01]
    found = scores(z, factors)
    for score in (found.mig, found.disentanglement, found.completeness, found.informativeness):
        assert 0.97 < score <= 1


def test_dimensions_that_know_nothing_cost_little(factors):
    found = scores(np.hstack([standardised(factors), np.random.default_rng(1).normal(size=(600, 3))]), factors)
    assert min(found.mig, found.disentanglement, found.completeness, found.informativeness) > 0.95


def test_rotated_codes_know_the_factors_but_not_apart(factors):
    """By a matrix whose entries are all about as large: no dimension is of one factor."""
    rotation = np.array([[2, 2, 1], [-2, 1, 2], [1, -2, 2]]) / 3
    found = scores(standardised(factors) @ rotation, factors)
    assert found.informativeness > 0.7
    assert max(found.mig, found.disentanglement, found.completeness) < 0.3


@pytest.mark.parametrize("dimensions", [3, 10])
def test_random_codes_score_about_zero(factors, dimensions):
    found = scores(np.random.default_rng(3).normal(size=(600, dimensions)), factors)
    scored = (found.mig, found.disentanglement, found.completeness, found.informativeness)
    assert max(map(abs, scored)) < 0.07


def test_two_dimensions_of_one_factor_are_disentangled_but_not_complete(factors):
    twice = np.repeat(standardised(factors), 2, axis=1) + np.random.default_rng(4).normal(scale=0.1, size=(600, 6))
    found = scores(twice, factors)
    assert found.mig < 0.05
    assert found.disentanglement > 0.9
    assert found.completeness < 0.8


def test_one_dimension_of_two_factors_is_complete_but_not_disentangled(factors):
    z = standardised(factors)
    joined = np.stack([factors.indices[:, 0] + 3 * factors.indices[:, 1], z[:, 2]], axis=1)  # of the first two
    found = scores(joined, factors)
    assert found.completeness > 0.95
    assert found.disentanglement < 0.7


@pytest.mark.parametrize("codes", [np.zeros((600, 2)), np.full((600, 1), 7.0)])
def test_collapsed_codes_tell_nothing(factors, codes):
    found = scores(codes, factors)
    assert (found.mig, found.disentanglement, found.completeness) == (0, 0, 0)
    assert found.informativeness == pytest.approx(0, abs=0.07)


def test_a_factor_with_one_value_is_left_out(factors):
    constant = replace(factors, indices=factors.indices * [1, 0, 1])
    found = scores(standardised(factors), constant)
    assert list(found.mig_of) == list(found.informativeness_of) == ["shape", "colour"]
    assert found.mig > 0.97
    assert compare(standardised(factors), replace(factors, indices=0 * factors.indices), seed=0) is None


def test_the_gap_by_hand():
    """v has 1 bit, of which the first dimension knows all, the second that of half of the images; 1 - 0.311."""
    v = np.array([0, 0, 1, 1] * 100)
    second = np.array([0, 0, 0, 1] * 100)
    assert mutual_information_gap(np.stack([v, second], axis=1), v) == pytest.approx(1 - 0.311278, abs=1e-5)
    assert mutual_information_gap(np.stack([v, v], axis=1), v) == 0
    assert mutual_information_gap(v[:, None], v) == 1


def test_the_gap_is_of_bins_of_equal_width():
    v = np.arange(1000) // 500
    z = np.linspace(0, 1, 1000)
    assert mutual_information_gap(z[:, None], v) == pytest.approx(1)
    outlier = np.append(z, 1000.0)[:, None]
    assert mutual_information_gap(outlier, np.append(v, 1)) < 0.01, "all others are in one bin"


@pytest.mark.parametrize(
    ("importance", "apart", "whole"),
    [
        (np.eye(3), 1, 1),
        (np.ones((3, 3)) / 3, 0, 0),
        (np.zeros((2, 3)), 0, 0),
        (np.ones((1, 3)), 0, 1),
        (np.array([[0.5], [0.5]]), 1, 0),
        # A row of all weight 1 with shares 3/4 and 1/4, another with 1/4 and 3/4: 1 - 0.811 bits.
        (np.array([[0.75, 0.25], [0.25, 0.75]]), 1 - 0.811278, 1 - 0.811278),
        # The first dimension, for one factor alone, weighs half as much as the second.
        (np.array([[2 / 3, 0.0], [1 / 3, 1.0]]), 1 / 3 + 2 / 3 * (1 - 0.811278), (1 - 0.918296 + 1) / 2),
    ],
)
def test_disentanglement_and_completeness_by_hand(importance, apart, whole):
    assert disentanglement(importance) == pytest.approx(apart, abs=1e-5)
    assert completeness(importance) == pytest.approx(whole, abs=1e-5)


def test_the_same_seed_gives_the_same_scores(factors):
    z = np.random.default_rng(5).normal(size=(600, 3)) + standardised(factors)
    assert scores(z, factors) == scores(z, factors)


# In the evaluation of a model


@pytest.fixture(scope="module")
def sprites(tmp_path_factory) -> PreparedData:
    folder = tmp_path_factory.mktemp("sprites")
    prepare(DataConfig(source="sprites", size=[12, 12], limit=600), folder, lambda *of: None, processes=0)
    images, labels = (read_split(folder, split) for split in SPLITS), (read_labels(folder, split) for split in SPLITS)
    return PreparedData(*images, *labels, test_factors=read_factors(folder, "test"))


def trained(name: str, data: PreparedData, **config: Any):
    model = registry.build("models", name, config, data.train.shape[1:], 3)
    setup = Setup(Batches(data.train, labels=data.train_labels), Batches(data.val, labels=data.val_labels))
    train(model, setup, None if model.closed_form else TrainingConfig(epochs=2, batch_size=100), seed=0)
    return model.eval()


def test_a_model_of_sprites_is_judged_by_their_factors(sprites):
    found = judge_model(trained("vae", sprites, latent=3, hidden=30), sprites, CONFIG)
    metrics = found.metrics["factors"]
    names = ["shape", "scale", "rotation", "x", "y", "colour"]
    assert list(metrics["mig_of"]) == list(metrics["informativeness_of"]) == names
    assert all(-0.3 < metrics[key] <= 1 for key in ("mig", "disentanglement", "completeness", "informativeness"))
    assert math.isfinite(metrics["mig"])
    assert "factors.png" in found.pictures


@pytest.mark.parametrize(
    ("name", "config"), [("naive_bayes", {}), ("fsq", {"levels": [4, 3], "channels": 8})], ids=["no codes", "indices"]
)
def test_a_model_without_codes_of_numbers_is_not(name, config, sprites):
    found = judge_model(trained(name, sprites, **config), sprites, CONFIG)
    assert "factors" not in found.metrics
    assert "factors.png" not in found.pictures


def test_images_are_compared_with_their_own_factors(sprites, monkeypatch):
    """Codes that say whether the place of an image in the test set is odd, and a factor that says the same."""
    places = np.arange(len(sprites.test))
    known = replace(sprites, test_factors=Factors({"odd": ["no", "yes"]}, (places % 2)[:, None]))
    monkeypatch.setattr(module, "COMPARED", 50)
    monkeypatch.setattr(module, "codes", lambda model, images: _rows(images, sprites.test)[:, None] % 2)
    found = module.compare_with_factors(trained("vae", sprites, latent=2, hidden=5), known, seed=0)
    assert found is not None
    assert found.metrics()["mig"] == pytest.approx(1)


def _rows(images: Batches, known: np.ndarray) -> np.ndarray:
    places = {image.tobytes(): place for place, image in enumerate(known)}
    return np.array(
        [places[image.tobytes()] for image in (images[:].numpy() * 255).round().astype(np.uint8)], np.float32
    )


def test_names_are_drawn_as_they_are(tmp_path: Path):
    importance = np.random.default_rng(0).dirichlet(np.ones(40), size=2).T
    draw_importance(tmp_path / "factors.png", importance, ["a $^ name", "_b" * 40])
    assert (tmp_path / "factors.png").stat().st_size > 1000
