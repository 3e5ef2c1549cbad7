"""Trials, their fingerprints, the store and the ranking."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from latentmill import variants
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.training import checkpoint, trials
from latentmill.training.loop import DivergedError, train
from latentmill.training.plan import Planned
from latentmill.training.results import Outcome, curves_csv, outcome_of, require_winners, trials_csv, winners
from latentmill.training.trials import Trial, TrialStore

DIGEST = "a" * 64


def vae(epochs=2, seed=0, **model) -> Trial:
    config = variants.find("vae").Config(latent=3, components=3, **model)
    return Trial("vae", config.model_dump(), TrainingConfig(epochs=epochs, batch_size=50).model_dump(), seed)


@pytest.fixture
def run(digits, tmp_path):
    """Runs a trial into a store and returns its folder."""

    def run(trial: Trial, store: str = "store"):
        kept = TrialStore(tmp_path / store)
        trials.run(trial, Batches(digits[:500]), Batches(digits[500:]), DIGEST, kept)
        return kept.folder(trial.fingerprint(DIGEST))

    return run


def test_a_fingerprint_depends_on_config_data_and_code_only(monkeypatch):
    prints = [vae().fingerprint(DIGEST), vae(epochs=3).fingerprint(DIGEST), vae(seed=1).fingerprint(DIGEST)]
    prints += [vae(beta=2.0).fingerprint(DIGEST), vae().fingerprint("b" * 64)]
    monkeypatch.setattr(trials, "code_digest", lambda variant: "another")
    prints.append(vae().fingerprint(DIGEST))
    assert len(set(prints)) == len(prints)
    monkeypatch.undo()
    assert vae().fingerprint(DIGEST) == prints[0]


def test_the_code_of_one_variant_is_no_part_of_anothers():
    assert trials.code_digest("vae") != trials.code_digest("autoencoder")
    files = trials.code.imported_files(trials.code.SOURCE / "latentmill" / "variants" / "vae.py")
    names = {path.name for path in files}
    assert {"vae.py", "nets.py", "densities.py", "variant.py"} <= names
    assert not names & {"autoencoder.py", "sweep.py", "sampler.py"}


def test_a_trial_is_kept_whole_without_pickle(run):
    folder = run(vae())
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "trial.json"]
    record = json.loads((folder / "trial.json").read_text())
    assert record["fingerprint"] == folder.name
    assert len(record["history"]) == 2
    assert np.isfinite(record["criterion"])


def test_the_same_trial_gives_the_same_weights_bit_for_bit(run):
    first, again, other = run(vae(), "first"), run(vae(), "again"), run(vae(seed=1), "first")
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert any(
        (load_file(first / "model.safetensors")[key] != value).any()
        for key, value in load_file(other / "model.safetensors").items()
    )


@pytest.mark.parametrize("name", ["model.safetensors", "trial.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_damaged_trial_counts_as_none(run, name, damage):
    folder = run(vae(epochs=1))
    store = TrialStore(folder.parent)
    assert store.find(folder.name) is not None
    file = folder / name
    content = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(b"" if damage == "empty" else content[:-10])
    assert store.find(folder.name) is None
    with pytest.raises(InputError, match="must"):
        checkpoint.load(folder)


def test_the_best_epoch_is_kept(digits):
    """Training at a rate that destroys the model after its first epochs keeps what was best."""
    images, val = Batches(digits[:500]), Batches(digits[500:])
    model = variants.build("autoencoder", {"latent": 3, "components": 3}, (1, 8, 8))
    fitted = train(model, images, val, TrainingConfig(epochs=30, learning_rate=0.05, batch_size=20, patience=4), seed=0)
    losses = [row["val_loss"] for row in fitted.history]
    assert fitted.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == fitted.best_epoch + 4 < 30, "training must have stopped early for this test to show anything"
    assert fitted.criterion == pytest.approx(min(losses), rel=1e-5)


def test_max_steps_ends_training_with_the_epoch_that_reaches_it(digits):
    model = variants.build("autoencoder", {"latent": 3, "components": 3}, (1, 8, 8))
    config = TrainingConfig(epochs=9, batch_size=100, max_steps=11)
    fitted = train(model, Batches(digits[:500]), Batches(digits[500:]), config, seed=0)
    assert len(fitted.history) == 3


def test_a_loss_that_is_not_finite_is_an_error(digits):
    model = variants.build("autoencoder", {"latent": 3, "components": 3}, (1, 8, 8))
    model.encoder[1].weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss must be finite, but got nan in epoch 1"):
        train(model, Batches(digits[:500]), Batches(digits[500:]), TrainingConfig(), seed=0)


def outcome(entry, fingerprint, criterion=None, error=None):
    history = [{"train_loss": 2.0, "val_loss": 3.0}, {"train_loss": 1.0, "val_loss": 2.5}]
    record = {"criterion": criterion, "best_epoch": 2, "seconds": 1.5, "history": history}
    return Outcome(Planned(entry, vae(), entry), fingerprint, None if criterion is None else record, error)


def test_the_winner_is_the_lowest_criterion_and_ties_go_by_fingerprint():
    outcomes = [outcome("a", "3", 2.0), outcome("a", "2", 1.0), outcome("a", "1", 1.0), outcome("b", "9", 5.0)]
    for order in (outcomes, outcomes[::-1]):
        assert {entry: best.fingerprint for entry, best in winners(order).items()} == {"a": "1", "b": "9"}


def test_an_entry_without_a_finished_trial_is_named_with_its_error():
    outcomes = [outcome("a", "1", 1.0), outcome("a", "2", error="Boom: x"), outcome("b", "3", error="Bang: y")]
    require_winners(outcomes[:2], winners(outcomes[:2]))
    with pytest.raises(InputError, match=r"these have none: ladder\.b: Bang: y$"):
        require_winners(outcomes, winners(outcomes))


def test_a_trial_that_left_nothing_is_failed(tmp_path):
    lost = outcome_of(Planned("a", vae(), "a"), "1", TrialStore(tmp_path), {"2": "Boom"})
    assert (lost.record, lost.error) == (None, "ended without a result")


def test_the_tables_have_a_row_for_every_trial_and_every_epoch():
    outcomes = [outcome("a", "1", 1.0), outcome("a", "2", error="Boom: x, y")]
    lines = trials_csv(outcomes, winners(outcomes)).splitlines()
    assert lines[0].startswith("entry,fingerprint,variant,seed,status,winner,criterion,best_epoch,epochs,")
    assert lines[1].startswith("a,1,vae,0,finished,yes,1.0,2,2,1.0,2.5,1.5,,")
    assert lines[2].startswith('a,2,vae,0,failed,,,,,,,,"Boom: x, y",')
    assert curves_csv(outcomes).splitlines()[1:] == ["a,1,1,2.0,3.0", "a,1,2,1.0,2.5"]
