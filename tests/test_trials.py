"""Trials: their fingerprints, how they are run, kept and gone on with."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES, each_model
from safetensors.numpy import load_file
from safetensors.torch import save as save_tensors

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.contract import HasCriterion
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.training import loop
from latentmill.training import state as training_state
from latentmill.training.endings import DivergedError
from latentmill.training.loop import train
from latentmill.training.state import TrainingState, from_bytes, to_bytes
from latentmill.trials import code, running, trained_model
from latentmill.trials import store as store_module
from latentmill.trials import trial as trial_module
from latentmill.trials.record import digest as sha256
from latentmill.trials.running import UNWATCHED, Context, Watch
from latentmill.trials.store import TrialStore, UnreachableError
from latentmill.trials.trial import Trial, code_digest

DIGEST = "a" * 64


def vae(epochs=2, seed=0, **config) -> Trial:
    config = registry.find("models", "vae").Config(latent=3, **config)
    return Trial("vae", config.model_dump(), TrainingConfig(epochs=epochs, batch_size=50).model_dump(), seed)


class Interruption(Exception):
    """What a kill looks like from within."""


def after(epoch):
    """A watch that interrupts the trial once this epoch is safe."""

    def interrupt(state):
        if state.epoch == epoch:
            raise Interruption

    return Watch(interrupt)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def run(setup, tmp_path, notes):
    """Runs a trial into a store and returns its folder."""

    def run(trial: Trial, store: str = "store", watch=UNWATCHED, **given):
        kept = TrialStore(tmp_path / store, notes.append)
        running.run(trial, Context(setup.examples, setup.val, DIGEST, kept, CLASSES, **given), watch)
        return tmp_path / store / trial.fingerprint(DIGEST)

    run.root = tmp_path
    return run


def test_a_fingerprint_depends_on_config_data_and_code_only(monkeypatch):
    prints = [vae().fingerprint(DIGEST), vae(epochs=3).fingerprint(DIGEST), vae(seed=1).fingerprint(DIGEST)]
    prints += [vae(beta=2.0).fingerprint(DIGEST), vae().fingerprint("b" * 64)]
    monkeypatch.setattr(trial_module, "code_digest", lambda family, name: "another")
    prints.append(vae().fingerprint(DIGEST))
    assert len(set(prints)) == len(prints)
    monkeypatch.undo()
    assert vae().fingerprint(DIGEST) == prints[0]


def test_the_code_of_one_model_is_no_part_of_anothers():
    assert code_digest("models", "vae") != code_digest("models", "autoencoder")
    files = code.imported_files(code.SOURCE / "latentmill" / "models" / "vae.py")
    names = {path.name for path in files}
    assert {"vae.py", "densities.py", "contract.py"} <= names
    assert not names & {"autoencoder.py", "store.py", "worker.py", "sampler.py"}


def test_a_trial_is_kept_whole_without_pickle(run):
    folder = run(vae())
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "trial.json"]
    record = json.loads((folder / "trial.json").read_text())
    assert (record["fingerprint"], record["status"]) == (folder.name, "finished")
    assert len(record["history"]) == 2
    assert np.isfinite(record["criterion"])


def test_the_same_trial_gives_the_same_weights_bit_for_bit(run):
    first, again, other = run(vae(), "first"), run(vae(), "again"), run(vae(seed=1), "first")
    assert weights(first) == weights(again)
    assert any(
        (load_file(first / "model.safetensors")[key] != value).any()
        for key, value in load_file(other / "model.safetensors").items()
    )


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


# Going on after an interruption


@each_model
@pytest.mark.parametrize("epoch", [1, 4])
def test_an_interrupted_trial_ends_with_the_weights_of_an_undisturbed_one(run, name, config, epoch):
    kind = registry.find("models", name)
    if kind.closed_form or not issubclass(kind, HasCriterion):
        pytest.skip("has no epochs, or no criterion")
    training = TrainingConfig(epochs=6, batch_size=50, learning_rate=0.01, patience=3).model_dump()
    trial = Trial(name, kind.Config(**config).model_dump(), training, 0)
    undisturbed = run(trial, "undisturbed")
    with pytest.raises(Interruption):
        run(trial, "interrupted", watch=after(epoch))
    seen = []
    interrupted = run(trial, "interrupted", watch=Watch(lambda state: seen.append(state.epoch)))
    assert seen[0] == epoch + 1, "it goes on from the last epoch"
    assert weights(interrupted) == weights(undisturbed)
    reported = [json.loads((folder / "trial.json").read_text()) for folder in (interrupted, undisturbed)]
    assert reported[0]["history"] == reported[1]["history"]
    assert reported[0]["best_epoch"] == reported[1]["best_epoch"]


def test_the_best_weights_survive_an_interruption_after_them(run):
    """At a rate that destroys the model, the best epoch is long past when the interruption comes."""
    training = TrainingConfig(epochs=30, batch_size=20, learning_rate=0.05, patience=6).model_dump()
    trial = Trial("autoencoder", registry.find("models", "autoencoder").Config(latent=3).model_dump(), training, 0)
    undisturbed = run(trial, "undisturbed")
    record = json.loads((undisturbed / "trial.json").read_text())
    last = len(record["history"])
    assert record["best_epoch"] < last - 1
    with pytest.raises(Interruption):
        run(trial, "interrupted", watch=after(last - 1))
    assert weights(run(trial, "interrupted")) == weights(undisturbed)


def test_one_checkpoint_is_kept_at_a_time(run, tmp_path):
    with pytest.raises(Interruption):
        run(vae(epochs=5), watch=after(3))
    (folder,) = (tmp_path / "store").iterdir()
    (kept,) = [path.name for path in folder.iterdir() if path.name.startswith("checkpoint")]
    assert kept.startswith("checkpoint-000003-")


@pytest.mark.parametrize("damage", [b"", b"cut", b"flipped"], ids=["empty", "cut", "flipped"])
def test_a_damaged_checkpoint_is_told_and_redone(run, tmp_path, notes, damage):
    undisturbed = run(vae(epochs=4), "undisturbed")
    with pytest.raises(Interruption):
        run(vae(epochs=4), watch=after(2))
    (file,) = (tmp_path / "store").glob("*/checkpoint-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({b"": b"", b"cut": bytes(content[:-9]), b"flipped": bytes(content)}[damage])
    notes.clear()
    folder = run(vae(epochs=4))
    assert weights(folder) == weights(undisturbed)
    assert ["is damaged, so its epochs are redone" in note for note in notes if "failed" not in note] == [True]
    assert not list(folder.glob("checkpoint-*"))


def interrupt(run, trial, store="store", **given):
    """Returns the checkpoint of its second epoch."""
    with pytest.raises(Interruption):
        run(trial, store, watch=after(2), **given)
    return next(path for path in run.root.glob(f"{store}/{trial.fingerprint(DIGEST)}/checkpoint-*"))


def test_the_checkpoint_of_another_trial_is_of_no_use_though_its_weights_have_the_same_shapes(run, notes):
    undisturbed = run(vae(epochs=4), "undisturbed")
    own, other = interrupt(run, vae(epochs=4)), interrupt(run, vae(epochs=4, seed=1))
    for path in own.parent.glob("checkpoint-*"):
        path.unlink()
    other.rename(own.parent / other.name)
    notes.clear()
    assert weights(run(vae(epochs=4))) == weights(undisturbed)
    assert any("is damaged, so its epochs are redone" in note and "it is of " in note for note in notes)


def flow(parent, epochs=4):
    found = registry.find("priors", "flow")
    training = TrainingConfig(epochs=epochs, batch_size=50).model_dump()
    return Trial("flow", found.Config(hidden=16).model_dump(), training, 0, parent=parent.fingerprint(DIGEST))


def test_the_checkpoint_of_a_prior_is_of_no_use_where_its_parent_has_other_weights_by_now(run, notes):
    """The trial is the same, but a GPU, or a pack, gives other roundings."""
    kept, other = run(vae(epochs=1)), run(vae(epochs=1, seed=1), "elsewhere")
    interrupt(run, flow(vae(epochs=1)))
    store = TrialStore(kept.parent)
    found = store.find(kept.name)
    store.save_result(kept.name, found, weights(other))
    notes.clear()
    resumed = run(flow(vae(epochs=1)))
    assert len([note for note in notes if "is damaged, so its epochs are redone" in note]) == 1
    shutil.rmtree(resumed)
    anew = run(flow(vae(epochs=1)))
    assert weights(anew) == weights(resumed)
    assert json.loads((anew / "trial.json").read_text())["parent_weights_sha256"] == sha256(weights(other))


def test_a_prior_is_recorded_with_the_weights_whose_codes_it_learned(run, setup, tmp_path, monkeypatch):
    """Another sweep replaces its parent after it was loaded."""
    kept, other = run(vae(epochs=1)), run(vae(epochs=1, seed=1), "elsewhere")
    learned, load = sha256(weights(kept)), TrialStore.load

    def replaced(self, fingerprint):
        found = load(self, fingerprint)
        self.save_result(fingerprint, self.find(fingerprint), weights(other))
        return found

    monkeypatch.setattr(TrialStore, "load", replaced)
    folder = run(flow(vae(epochs=1), epochs=1))
    assert json.loads((folder / "trial.json").read_text())["parent_weights_sha256"] == learned


def fresh(setup, latent=3):
    model = registry.build("models", "autoencoder", {"latent": latent}, (1, 8, 8))
    return TrainingState(model, TrainingConfig(), torch.Generator().manual_seed(0), torch.Generator(), examples=100)


@pytest.mark.parametrize("change", ["owner", "shapes", "best epoch", "history", "no checkpoint", "generator"])
def test_a_checkpoint_that_can_not_be_restored_leaves_the_state_as_it_was(setup, change):
    other = fresh(setup, latent=4 if change == "shapes" else 3)
    other.add({"train_loss": 1.0, "val_loss": 2.0})
    other.best_epoch = 2 if change == "best epoch" else 1
    other.history = [{"val_loss": 1.0}] if change == "history" else other.history
    content = to_bytes(other, "another" if change == "owner" else "own")
    if change == "no checkpoint":
        content = save_tensors({"x": torch.zeros(1)})
    if change == "generator":
        content = content.replace(b"generator/order", b"generator/other")
    state = fresh(setup)
    before = {name: each.clone() for name, each in state.model.state_dict().items()}
    draws = torch.rand(3, generator=fresh(setup).order), torch.rand(3, generator=fresh(setup).noise)
    with pytest.raises(InputError, match="a checkpoint must hold the state of its trial, but"):
        from_bytes(content, state, "own")
    assert all((before[name] == each).all() for name, each in state.model.state_dict().items())
    assert (state.epoch, state.best_epoch, state.moments) == (0, 0, {})
    assert (torch.rand(3, generator=state.order) == draws[0]).all()
    assert (torch.rand(3, generator=state.noise) == draws[1]).all()


@pytest.mark.parametrize("operation", ["names", "read"])
@pytest.mark.parametrize(("failures", "restored"), [(2, True), (3, False)])
def test_a_checkpoint_in_a_store_that_does_not_answer_is_asked_for_again_and_never_taken_for_damaged(
    setup, tmp_path, notes, monkeypatch, operation, failures, restored
):
    store, saved = TrialStore(f"local://{tmp_path}/store", notes.append), fresh(setup)
    saved.add({"train_loss": 1.0, "val_loss": 2.0})
    store.save_checkpoint("1" * 16, saved, "own")
    answers, answer = iter([False] * failures), getattr(Storage, operation)

    def at_first_not(*given):
        if next(answers, True):
            return answer(*given)
        raise OSError("connection refused")

    monkeypatch.setattr(Storage, operation, at_first_not)
    monkeypatch.setattr(store_module, "PAUSES", (0.01, 0.01))
    state = fresh(setup)
    if restored:
        store.load_checkpoint("1" * 16, state, "own")
    else:
        with pytest.raises(UnreachableError, match=r"train\.storage must answer, but .*: connection refused"):
            store.load_checkpoint("1" * 16, state, "own")
    assert (state.epoch, notes) == (int(restored), [])
    assert len(store.checkpoint_names("1" * 16)) == 1


@pytest.mark.parametrize("url", ["{}/store", "local://{}/store"], ids=["here", "elsewhere"])
@pytest.mark.parametrize("damage", ["large", "gone"])
def test_what_lies_in_place_of_a_checkpoint_is_damage_wherever_the_store_is(
    setup, tmp_path, notes, monkeypatch, url, damage
):
    store, state = TrialStore(url.format(tmp_path), notes.append), fresh(setup)
    store.save_checkpoint("1" * 16, state, "own")
    monkeypatch.setattr(store_module, "PAUSES", (0.01,))
    if damage == "large":
        monkeypatch.setattr(store_module.checkpoint, "most_bytes", lambda model: 9)
    else:
        monkeypatch.setattr(TrialStore, "checkpoint_names", lambda *given: ["checkpoint-000003-" + "0" * 16])
    store.load_checkpoint("1" * 16, state, "own")
    assert ["is damaged, so its epochs are redone" in note for note in notes] == [True]


def test_a_checkpoint_has_fewer_bytes_than_are_read_though_each_phase_has_moments_of_all_weights(setup, monkeypatch):
    config = {"hidden": 200, "top": 200, "chains": 1, "greedy": 1, "sampling_steps": 1}
    model = registry.build("models", "dbm", config, (1, 8, 8))
    member = loop.begin(model, setup, TrainingConfig(epochs=2, batch_size=250, ema=0.9), 0)
    trained = loop.trainer([member.state], setup)
    for _ in range(2):
        loop.train_epoch(trained, [member], replace(setup, distance=lambda model: 1.0))
    monkeypatch.setattr(training_state, "HEADER", 2**14)
    assert len(to_bytes(member.state)) < training_state.most_bytes(model)


def test_a_disk_without_room_for_checkpoints_does_not_stop_a_trial(run, notes, monkeypatch):
    write = Storage.write

    def no_room(self, name, content):
        if "checkpoint" in name:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Storage, "write", no_room)
    assert (run(vae(epochs=2)) / "model.safetensors").exists()
    assert len(notes) == 1, "it is noted once, not at every epoch"
    assert "an interruption loses epochs" in notes[0]
    assert "No space left" in notes[0]


# What is damaged


@pytest.mark.parametrize("name", ["model.safetensors", "trial.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_a_damaged_trial_counts_as_none(run, notes, name, damage):
    folder = run(vae(epochs=1))
    store = TrialStore(folder.parent, notes.append)
    assert store.find(folder.name) is not None
    file = folder / name
    content = file.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    file.write_bytes({"gone": b"", "empty": b"", "cut": content[:-10], "flipped": flipped}[damage])
    if damage == "gone":
        file.unlink()
    assert store.find(folder.name) is None
    if not (name == "trial.json" and damage == "gone"):
        assert len(notes) == 1
        assert notes[0].endswith("the trial is redone")
    with pytest.raises(InputError, match="must"):
        trained_model.load(folder)


def test_a_damaged_winner_is_not_brought_home(run, tmp_path):
    folder = run(vae(epochs=1))
    store = TrialStore(folder.parent)
    record = store.find(folder.name)
    (folder / "model.safetensors").write_bytes(b"")
    (tmp_path / "home").mkdir()
    with pytest.raises(InputError, match="run again to redo the trial"):
        store.fetch(record, tmp_path / "home")
    assert store.find(folder.name) is None
    assert list((tmp_path / "home").iterdir()) == []


# What goes wrong in a trial


def test_a_trial_that_diverges_is_kept_as_such_with_its_last_finite_loss(run, digits):
    training = TrainingConfig(epochs=50, batch_size=50, learning_rate=1e30).model_dump()
    trial = Trial("vae", registry.find("models", "vae").Config(latent=3).model_dump(), training, 0)
    folder = run(trial)
    record = json.loads((folder / "trial.json").read_text())
    assert record["status"] == "diverged"
    assert 1 < record["step"] < 20
    assert math.isfinite(record["last_finite_loss"])
    assert [path.name for path in folder.iterdir()] == ["trial.json"]


def test_a_closed_form_that_is_not_finite_has_diverged(run, monkeypatch):
    monkeypatch.setattr(registry.find("models", "naive_bayes"), "criterion", lambda *_: torch.tensor(float("inf")))
    folder = run(Trial("naive_bayes", registry.find("models", "naive_bayes").Config().model_dump(), None, 0))
    record = json.loads((folder / "trial.json").read_text())
    assert (record["status"], record["step"]) == ("diverged", 0)


def out_of_memory(batch_size):
    """Stands in for a device on which only smaller batches fit."""
    train_epoch = loop.train_epoch

    def tried(trained, *others):
        if trained.members[0].config.batch_size >= batch_size:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_epoch(trained, *others)

    return tried


def test_a_trial_that_runs_out_of_memory_is_kept_as_such(run, monkeypatch):
    monkeypatch.setattr("latentmill.training.loop.train_epoch", out_of_memory(50))
    record = json.loads((run(vae()) / "trial.json").read_text())
    assert (record["status"], record["error"]) == ("out of memory", "OutOfMemoryError: CUDA out of memory")


def test_a_failure_is_kept_and_raised(run):
    trial = Trial("ppca", registry.find("models", "ppca").Config(latent=64).model_dump(), None, 0)
    with pytest.raises(InputError, match="latent must be below"):
        run(trial)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert running.is_out_of_memory(error) == expected


# The loop


def test_the_best_epoch_is_kept(setup):
    """Training at a rate that destroys the model after its first epochs keeps what was best."""
    model = registry.build("models", "autoencoder", {"latent": 3}, (1, 8, 8))
    fitted = train(model, setup, TrainingConfig(epochs=30, learning_rate=0.05, batch_size=20, patience=4), seed=0)
    losses = [row["val_loss"] for row in fitted.history]
    assert fitted.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == fitted.best_epoch + 4 < 30, "training must have stopped early for this test to show anything"
    assert fitted.criterion == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize(("keep", "kept", "over"), [("best", 1, True), ("last", 2, False)])
def test_the_last_epoch_is_kept_however_bad_it_is_where_that_is_asked_for(keep, kept, over):
    """Then patience ends nothing."""
    config = TrainingConfig(epochs=3, patience=1, keep=keep)
    model = registry.build("models", "autoencoder", {"latent": 3}, (1, 8, 8))
    state = TrainingState(model, config, torch.Generator(), torch.Generator(), examples=100)
    name, weights = next(model.named_parameters())
    for epoch, loss in enumerate((1.0, 2.0), start=1):
        weights.data.fill_(epoch)
        state.add({"val_loss": loss})
    assert (state.best_epoch, state.best_loss, state.is_over) == (kept, float(kept), over)
    assert (state.best_weights[name] == kept).all()


def test_max_steps_ends_training_with_the_epoch_that_reaches_it(setup):
    model = registry.build("models", "autoencoder", {"latent": 3}, (1, 8, 8))
    config = TrainingConfig(epochs=9, batch_size=100, max_steps=11)
    fitted = train(model, setup, config, seed=0)
    assert len(fitted.history) == 3


def test_a_loss_that_is_not_finite_is_an_error(setup):
    model = registry.build("models", "autoencoder", {"latent": 3}, (1, 8, 8))
    model.encoder[1].weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss must be finite, but got nan at step 1 after None"):
        train(model, setup, TrainingConfig(), seed=0)
