"""What goes wrong with one entry costs no other: train and evaluate, of images that are neither square nor opaque."""

import json
import shutil
import sys

import numpy as np
import prepared_sets
import pytest
from ruamel.yaml import YAML
from scipy.ndimage import gaussian_filter
from sites import ROOT, Site

from latentmill.trials import trained_model

SHAPE = (4, 40, 24)
COUNTS = {"train": 90, "val": 40, "test": 40}
FEW = {"samples": 60, "importance_samples": 5, "likelihood_images": 20, "features": ["pixels"]}
PRIORS = {"normal": {}, "mixture": {"components": 2}, "far_too_many": {"model": "mixture", "components": 5000}}
LADDER = {
    "naive_bayes": {},
    "ppca": {"latent": 5, "priors": ["normal", "mixture"]},
    "impossible": {"model": "ppca", "latent": 90},  # as many factors as images
    "autoencoder": {"latent": 3, "priors": ["mixture", "far_too_many"]},
    "unfit": {"model": "autoencoder", "latent": 3, "priors": ["far_too_many"]},
    "vae": {"latent": 3},
    "conv": {"model": "vae", "network": "conv", "latent": 3, "observation": "gaussian"},
    "spoilt": {"model": "vae", "latent": 2},
}
MADE = [entry for entry in LADDER if entry != "impossible"]
UNFIT = "a mixture must have at most as many components as codes, and 2 codes, but got components=5000 for 90 codes"


class Evaluated(Site):
    command = (sys.executable, str(ROOT / "pipeline/evaluate.py"))


def images(count: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, *SHAPE))
    return np.clip(128 + 400 * gaussian_filter(noise, (0, 0, 3, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("setbacks")
    splits = {name: images(count, seed) for seed, (name, count) in enumerate(COUNTS.items())}
    prepared_sets.write(root / "data/prepared", splits)
    sections = {"data": {"source": "digits"}, "trial": {"epochs": 1}, "priors": PRIORS, "evaluation": FEW, "export": {}}
    YAML().dump(sections | {"ladder": LADDER, "train": {"workers": 2}}, root / "params.yaml")
    return Site(root)


@pytest.fixture(scope="module")
def trained(site):
    return site.run()


@pytest.fixture(scope="module")
def evaluated(site, trained):
    """After a model of which nothing finite comes has taken the place of one: what was said, and the metrics."""
    spoilt = trained_model.load(site.root / "models/spoilt")
    for weight in spoilt.model.decoder.parameters():
        weight.data.fill_(float("nan"))
    trained_model.save(site.root / "models/spoilt", spoilt.model, spoilt.record)
    weights = trained_model.load(site.root / "models/spoilt").record["weights_sha256"]
    prior = trained_model.load(site.root / "models/spoilt/priors/normal")
    trained_model.save(
        site.root / "models/spoilt/priors/normal", prior.model, prior.record | {"parent_weights_sha256": weights}
    )
    said = Evaluated(site.root).run()
    return said, json.loads((site.root / "evaluation/metrics.json").read_text())


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("impossible", "InputError: latent must be below the number of images and of pixels, 90, but got"),
        ("unfit/priors/far_too_many", f"InputError: {UNFIT}"),
        ("autoencoder/priors/far_too_many", f"InputError: {UNFIT}"),
    ],
)
def test_what_could_not_be_trained_says_why_in_its_place(site, trained, folder, told):
    found = site.root / "models" / folder
    assert [path.name for path in found.iterdir()] == ["failed.json"]
    content = json.loads((found / "failed.json").read_text())
    assert content["reason"].startswith(told)
    assert [trial["status"] for trial in content["trials"]] == ["failed"]
    assert trained_model.failure(found) == trained_model.Failure(content["reason"])
    assert f"models/{folder}: failed: {content['reason']}" in trained.splitlines()


def test_the_others_have_theirs(site, trained):
    for entry in MADE:
        assert trained_model.failure(site.root / "models" / entry) is None
        assert trained_model.load(site.root / "models" / entry).model.shape == SHAPE


def test_the_evaluation_tells_of_what_failed_and_judges_the_rest(site, evaluated):
    said, metrics = evaluated
    assert list(metrics) == list(LADDER)
    failed = {entry: found["failed"] for entry, found in metrics.items() if "samples" not in found}
    assert set(failed) == {"impossible", "unfit", "spoilt"}
    assert "must be finite, but" in failed["spoilt"]
    assert [line for line in said.splitlines() if line.startswith("spoilt: failed:")] == [
        f"spoilt: failed: {failed['spoilt']}"
    ]
    assert failed["unfit"] == f"prior far_too_many: InputError: {UNFIT}"
    assert f"autoencoder: the prior far_too_many failed: InputError: {UNFIT}" in said.splitlines()
    assert metrics["autoencoder"]["samples"].keys() == {"mixture"}
    assert metrics["ppca"]["exported_prior"] in ("normal", "mixture")
    entries = {path.stem: json.loads(path.read_text()) for path in (site.root / "evaluation/entries").iterdir()}
    assert entries == metrics
    assert "Traceback" not in said


def test_tables_and_pictures_are_of_the_rest(site, evaluated):
    judged = {"naive_bayes", "ppca", "autoencoder", "vae", "conv"}
    assert {path.name for path in (site.root / "evaluation/pictures").iterdir()} == judged
    assert set(json.loads((site.root / "evaluation/galleries.json").read_text())) == judged
    assert "spoilt" not in (site.root / "evaluation/distances.csv").read_text()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_reason_is_refused(tmp_path, content):
    (tmp_path / "failed.json").write_text(content)
    with pytest.raises(trained_model.InputError, match=r"failed\.json must say why there is no model"):
        trained_model.failure(tmp_path)


@pytest.mark.slow
def test_without_any_model_the_stage_fails_and_the_tables_say_why(tmp_path, site):
    other = site.copied(tmp_path)
    (other.root / "params.yaml").write_text((site.root / "params.yaml").read_text())
    params = YAML(typ="safe").load(other.root / "params.yaml")
    YAML().dump(params | {"ladder": {"impossible": LADDER["impossible"]}}, other.root / "params.yaml")
    last = other.run(status=1).splitlines()[-1]
    assert last.startswith("error: some entry must have a trial that finishes, but none has: ladder.impossible: Input")
    assert "latent must be below" in (other.root / "trials.csv").read_text()


def test_a_prior_of_other_weights_is_refused(tmp_path, site, trained):
    shutil.copytree(site.root / "models/vae", tmp_path / "vae")
    model = trained_model.load(tmp_path / "vae")
    model.model.kl.beta.fill_(2.0)
    trained_model.save(tmp_path / "vae", model.model, model.record)
    with pytest.raises(trained_model.InputError, match="must be of the weights beside it, but is of others"):
        trained_model.load_priors(tmp_path / "vae")
