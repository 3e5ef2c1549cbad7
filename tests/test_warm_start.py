"""Trials that begin with the weights of an earlier run."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import CLASSES, CONFIGS, IMAGE_SHAPE
from ruamel.yaml import YAML
from safetensors.torch import load_file
from sites import LADDER, SECTIONS
from test_plan import params_of
from test_sweep import swept

from latentmill import registry
from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.trials import earlier, packs, running, trained_model
from latentmill.trials.plan import Plan
from latentmill.trials.running import UNWATCHED, Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.study import folder
from latentmill.trials.trial import Trial
from latentmill.trials.warm_start import Start, WarmStart

DIGEST, MORE = "a" * 64, "b" * 64  # of the earlier data, and of the data to which images were added
PRIORS = {"flow": {"hidden": 8, "epochs": 3}, "normal": {}}
FSQ = {"levels": [4, 3], "channels": 8}


class Interruption(Exception):
    """What a kill looks like from within."""


def trial(name="vae", config=None, seed=0, **training) -> Trial:
    config = registry.find("models", name).Config(**(config or {"latent": 3}))
    chosen = TrainingConfig(**{"epochs": 4, "batch_size": 50} | training)
    return Trial(name, config.model_dump(), chosen.model_dump(), seed)


@pytest.fixture
def train(digits, labels, setup, tmp_path):
    """Trains a trial on the first `images` digits into a store; returns the store and the record."""

    def train(trained, store="store", images=500, digest=MORE, watch=UNWATCHED, warm_start=None):
        kept = TrialStore(tmp_path / store)
        some = Batches(digits[:images], labels=labels[:images])
        context = Context(some, setup.val, digest, kept, CLASSES, warm_start=warm_start)
        running.run(trained, context, watch)
        return kept, kept.find(trained.fingerprint(digest))

    return train


@pytest.fixture
def earlier_run(train, tmp_path):
    """Trains trials on 400 digits, and makes the folder that `cp -r models earlier` would make: folder -> trial."""

    def earlier_run(**trials):
        for name, each in trials.items():
            store, record = train(each, "before", 400, DIGEST)
            (tmp_path / "earlier" / folder(name)).mkdir(parents=True)
            store.fetch(record, tmp_path / "earlier" / folder(name))
        return WarmStart(str(tmp_path / "earlier"), IMAGE_SHAPE, CLASSES)

    return earlier_run


def warmed(trained, warm_start, study="vae") -> Trial:
    start, note = warm_start.start(study, trained)
    assert note.startswith("starts with the weights in ")
    return replace(trained, start=start)


def weights(store, record):
    return load_file(f"{store.storage.url}/{record['fingerprint']}/model.safetensors")


@pytest.mark.parametrize(
    ("name", "config"),
    [("vae", {"latent": 3}), ("fsq", FSQ), ("vq", CONFIGS["vq"][0]), ("vae", CONFIGS["vae"][2])],
    ids=["vae", "fsq", "vq", "perceptual"],
)
def test_a_warm_trial_begins_below_a_cold_one(name, config, earlier_run, train):
    before = trial(name, config, epochs=4, learning_rate=3e-3)
    warm_start, now = earlier_run(**{name: before}), trial(name, config, epochs=1)
    (_, cold), (_, warm) = train(now), train(warmed(now, warm_start, name), warm_start=warm_start)
    assert warm["history"][0]["val_loss"] < cold["history"][0]["val_loss"] - 0.5
    assert warm["fingerprint"] != cold["fingerprint"]


def test_hyperparameters_are_those_of_the_trial_and_not_of_the_earlier_one(earlier_run, train):
    warm_start = earlier_run(vae=trial(config={"latent": 3, "beta": 1.0}))
    store, record = train(warmed(trial(config={"latent": 3, "beta": 4.0}), warm_start), warm_start=warm_start)
    assert float(weights(store, record)["kl.beta"]) == 4.0


def test_the_number_of_images_is_that_of_the_present_data(digits):
    before, now = (registry.build("models", "beta_tc", {"latent": 3}, IMAGE_SHAPE) for _ in range(2))
    start = Start.of(before.state_dict(), trial("beta_tc"), now)
    for model, images in ((before, Batches(digits[:400])), (now, Batches(digits[:500]))):
        model.fit(images, images, torch.Generator())
    start.load_into(now)
    assert all(torch.equal(*pair) for pair in zip(now.parameters(), before.parameters(), strict=True))
    assert (float(before.images), float(now.images)) == (400, 500)


def test_packed_and_alone_give_the_same(earlier_run, train, setup, tmp_path):
    """A cold trial is a member, too."""
    warm_start = earlier_run(vae=trial())
    trials = [warmed(trial(learning_rate=rate), warm_start) for rate in (1e-3, 2e-3)] + [trial(seed=1)]
    store = TrialStore(tmp_path / "packed", note=pytest.fail)
    context = Context(setup.examples, setup.val, MORE, store, CLASSES, warm_start=warm_start)
    packs.run_pack(trials, context, [UNWATCHED] * 3)
    for each in trials:
        packed = store.find(each.fingerprint(MORE))
        _, alone = train(each, "alone", warm_start=warm_start)
        losses = [[row["val_loss"] for row in record["history"]] for record in (packed, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_an_interrupted_warm_trial_ends_as_an_undisturbed_one(earlier_run, train):
    warm_start = earlier_run(vae=trial())
    now = warmed(trial(), warm_start)

    def interrupt(state):
        if state.epoch == 2:
            raise Interruption

    with pytest.raises(Interruption):
        train(now, "interrupted", watch=Watch(interrupt), warm_start=warm_start)
    epochs = []
    watch = Watch(lambda state: epochs.append(state.epoch))
    store, record = train(now, "interrupted", watch=watch, warm_start=warm_start)
    assert epochs == [3, 4]
    other, undisturbed = train(now, "undisturbed", warm_start=warm_start)
    assert record["history"] == undisturbed["history"]
    found, expected = weights(store, record), weights(other, undisturbed)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_prior_starts_warm_only_if_its_model_starts_with_the_weights_whose_codes_it_learned(earlier_run, train):
    model = trial()
    config = registry.find("priors", "flow").Config(hidden=8).model_dump()
    prior = replace(trial(epochs=2, batch_size=200), model="flow", config=config, parent=model.fingerprint(DIGEST))
    warm_start = earlier_run(**{"vae": model, "vae/flow": prior})
    parent = warmed(model, warm_start)
    train(parent, warm_start=warm_start)
    cold = replace(prior, parent=parent.fingerprint(MORE))
    assert warm_start.start("vae/flow", cold, parent=model)[0] is None
    start, _ = warm_start.start("vae/flow", cold, parent=parent)
    (store, begun), (_, anew) = train(replace(cold, start=start), warm_start=warm_start), train(cold)
    assert begun["history"][0]["val_loss"] < anew["history"][0]["val_loss"]
    scales = [weights(store, record)["deviation"] for record in (begun, anew)]
    assert torch.equal(*scales), "losses compare only on the scale of the same codes"


@pytest.mark.parametrize(
    ("study", "changed", "reason"),
    [
        ("vae", {"config": {"latent": 4}}, "has weights of other shapes"),
        ("other", {}, "has no vae"),
        ("vae", {"name": "autoencoder"}, "has no autoencoder"),
    ],
)
def test_what_does_not_fit_starts_cold_and_says_why(study, changed, reason, earlier_run):
    start, note = earlier_run(vae=trial()).start(study, trial(**changed))
    assert start is None
    assert note.startswith("starts cold: ")
    assert reason in note


def test_the_plan_says_which_trials_start_warm(earlier_run, tmp_path):
    warm_start = earlier_run(vae=trial())
    ladder = {"naive_bayes": {}, "vae": {"latent": [3, 4]}}
    training = {"epochs": 4, "batch_size": 50}
    plan = Plan(params_of(ladder, trial=training), MORE, TrialStore(tmp_path), optuna_rounds, warm_start=warm_start)
    labels = [label for _, _, label in plan.rows()]
    assert [label.partition(" (")[0] for label in labels] == ["naive_bayes", "vae latent=3", "vae latent=4"]
    assert [label.partition(" (")[2][:11] for label in labels] == ["starts cold", "starts with", "starts cold"]
    assert plan.summary().endswith("; 1 start warm")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_sweep_hands_the_weights_to_its_workers(ranks, digits, earlier_run, train, tmp_path):
    warm_start = earlier_run(vae=trial(epochs=12, learning_rate=3e-3))
    ladder, settings = {"vae": {"latent": 3, "priors": ["flow"]}}, {"workers": 2, "workers_per_trial": ranks}
    plan, _ = swept(digits, tmp_path / "swept", ladder, warm_start=str(tmp_path / "earlier"), **settings)
    model, prior = plan.planned
    assert (model.trial.start, prior.trial.start) == (warm_start.earlier["vae"].weights, None)
    assert [record["status"] for record in plan.records.values()] == ["finished", "finished"]
    _, cold = train(replace(model.trial, start=None))
    losses = [record["history"][0]["val_loss"] for record in (plan.records[model.fingerprint], cold)]
    assert losses[0] < losses[1] - 0.5


# What is wrong with the folder


def test_a_folder_without_models_is_refused(tmp_path):
    for name in ("nothing", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(
            InputError, match=r"train\.warm_start must be a folder with models of an earlier run, .* none"
        ):
            WarmStart(str(tmp_path / name), IMAGE_SHAPE, CLASSES)


@pytest.mark.parametrize("name", ["model.safetensors", "trial.json"])
def test_a_damaged_file_is_refused(name, earlier_run, tmp_path):
    earlier_run(vae=trial())
    path = tmp_path / "earlier/vae" / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(InputError, match="earlier/vae"):
        WarmStart(str(tmp_path / "earlier"), IMAGE_SHAPE, CLASSES)


def test_weights_that_change_after_planning_train_nothing(earlier_run, train, tmp_path):
    warm_start = earlier_run(vae=trial())
    (tmp_path / "earlier/vae/model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="must have the digest that its record names"):
        train(warmed(trial(), warm_start), warm_start=warm_start)


def test_a_record_that_is_none_of_a_trained_model_is_refused(tmp_path):
    model = registry.build("models", "vae", {"latent": 3}, IMAGE_SHAPE)
    (tmp_path / "vae").mkdir()
    trained_model.save(tmp_path / "vae", model, {})
    with pytest.raises(InputError, match="must have the record of a trained model"):
        WarmStart(str(tmp_path), IMAGE_SHAPE, CLASSES)


def test_the_listing_changes_with_the_models(earlier_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    earlier_run(vae=trial())
    listed = earlier.listing("earlier")
    earlier.LISTING.parent.mkdir()
    earlier.LISTING.write_text(listed)
    earlier.require_as_listed("earlier")
    path = tmp_path / "earlier/vae/trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "0" * 64}))
    assert earlier.listing("earlier") != listed
    with pytest.raises(InputError, match="must stay the same while trials begin with them, but changed: run again"):
        earlier.require_as_listed("earlier")


def test_the_stage_scan_lists_them(stage, earlier_run, tmp_path):
    scan = stage("scan")
    YAML().dump(SECTIONS | {"ladder": LADDER, "train": {"warm_start": "earlier"}}, tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"train\.warm_start must be a folder with models"):
        scan.main()
    earlier_run(vae=trial())
    scan.main()
    assert (tmp_path / "data/warm_start.txt").read_text() == earlier.listing("earlier")
    YAML().dump(SECTIONS | {"ladder": LADDER, "train": {}}, tmp_path / "params.yaml")
    scan.main()
    assert (tmp_path / "data/warm_start.txt").read_text() == "none\n"


def test_a_folder_that_a_stage_replaces_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must lie outside of models, which a stage replaces"):
        params_of({"vae": {}}, train={"warm_start": "models"})
