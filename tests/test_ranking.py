"""Ranking by samples: the features that are pinned before training, and distances in them."""

import numpy as np
import pytest
from conftest import build
from ruamel.yaml import YAML
from test_sweep import swept

from latentmill.config import load_params
from latentmill.errors import InputError
from latentmill.features import self_supervised
from latentmill.storage import Storage
from latentmill.trials.ranking import features_for, pinned_features
from latentmill.trials.results import outcomes, ranking

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def features(digits, tmp_path_factory):
    return pinned_features(digits[:500], DIGEST, Storage(tmp_path_factory.mktemp("store")))


def test_features_are_fitted_once_for_data_and_kept(digits, tmp_path, monkeypatch):
    fits = []
    fit = self_supervised.SelfSupervisedFeatures.fit
    monkeypatch.setattr(self_supervised.SelfSupervisedFeatures, "fit", lambda *given: fits.append(given) or fit(*given))
    storage = Storage(tmp_path)
    first, again = (pinned_features(digits[:100], DIGEST, storage) for _ in range(2))
    assert first.digest == again.digest
    assert len(fits) == 1
    assert pinned_features(digits[100:200], "b" * 64, storage).digest != first.digest
    (kept, _) = tmp_path.glob(".features/*")
    kept.write_bytes(kept.read_bytes()[:100])
    (damaged,) = (path for path in tmp_path.glob(".features/*") if path.stat().st_size == 100)
    for digest, images in ((DIGEST, digits[:100]), ("b" * 64, digits[100:200])):
        pinned_features(images, digest, storage)
    assert len(fits) == 3, "what is damaged is fitted anew"
    assert damaged.stat().st_size > 100


def test_a_better_model_is_nearer(features, setup, trained):
    """PPCA to an untrained VAE, whose samples are grey."""
    distance = features.distance(setup.examples, setup.val)
    model, _ = trained("ppca", {"latent": 5})
    assert distance(model) < 0.8 * distance(build("vae", {"latent": 3}))
    assert distance(model) == distance(model)


@pytest.mark.parametrize("name", ["naive_bayes", "bernoulli_mixture"])
def test_a_model_without_parameters_has_a_distance(name, features, setup, trained):
    model, _ = trained(name, {"components": 4} if name == "bernoulli_mixture" else {})
    assert np.isfinite(features.distance(setup.examples, setup.val)(model))


def test_labels_of_conditional_models_are_drawn(features, setup, trained):
    model, _ = trained("conditional_vae", {"latent": 3, "hidden": 50})
    assert np.isfinite(features.distance(setup.examples, setup.val)(model))


def test_only_who_is_ranked_by_distance_needs_features(prepared, tmp_path):
    sections = {"data": {"source": "digits"}, "trial": {}, "train": {}, "evaluation": {}, "export": {}, "priors": {}}
    for ladder, needs in (
        ({"vae": {}}, False),
        ({"gan": {}}, True),
        ({"categorical_vae": {"rank_by": "distance"}}, True),
        ({"vae": {"rank_by": "distance"}}, True),
    ):
        YAML().dump(sections | {"ladder": ladder}, tmp_path / "params.yaml")
        found = features_for(load_params(tmp_path / "params.yaml"), prepared, Storage(tmp_path / "store"))
        assert (found is not None) == needs


@pytest.mark.parametrize(
    ("ladder", "told"),
    [
        ({"gone": {}}, "params.yaml: ladder.gone: a model must be one of .*, but got 'gone'"),
        ({"gan": {}, "other": {"model": "gan", "rank_by": "criterion"}}, "ladder.other: rank_by must be distance"),
    ],
    ids=["no model", "no criterion"],
)
def test_an_entry_that_cannot_be_ranked_is_named(ladder, told, tmp_path):
    sections = {"data": {"source": "digits"}, "trial": {}, "train": {}, "evaluation": {}, "export": {}, "priors": {}}
    YAML().dump(sections | {"ladder": ladder}, tmp_path / "params.yaml")
    with pytest.raises(InputError, match=told):
        features_for(load_params(tmp_path / "params.yaml"), tmp_path, Storage(tmp_path / "store"))


@pytest.mark.slow
def test_a_sweep_ranks_models_without_a_criterion(digits, tmp_path):
    """At a rate of nearly 0 a GAN stays where it was."""
    ladder = {"gan": {"latent": 3, "hidden": 50, "learning_rate": [1e-9, 2e-3], "epochs": 4}}
    plan, _ = swept(digits, tmp_path, ladder, workers=1)
    (ranked,) = ranking(outcomes(plan.planned, plan.records)).values()
    assert [each.best.planned.trial.training["learning_rate"] for each in ranked] == [2e-3, 1e-9]
    assert {planned.trial.features for planned in plan.planned} == {plan.features.digest}
