"""What lies in the trial store in place of what was stored: it is told in a line, redone, and blocks nothing."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from records import keep, record

from latentmill.cluster.lifetime import exclusive
from latentmill.errors import InputError
from latentmill.features.encoder import encoder
from latentmill.features.self_supervised import SelfSupervisedFeatures
from latentmill.storage import Storage
from latentmill.trials import cost
from latentmill.trials import store as store_module
from latentmill.trials.cost import Cost
from latentmill.trials.ranking import pinned_features
from latentmill.trials.record import digest, record_bytes
from latentmill.trials.store import TrialStore, UnreachableError

TRIAL = "1" * 16
FILES = ("trial.json", "model.safetensors")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner/file").write_text("x")


def huge(path: Path) -> None:
    """More than fits into memory, but not onto the disk: it has a hole."""
    with path.open("wb") as file:
        file.truncate(2**42)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unreadable(path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read all")
    path.write_text("{}")
    path.chmod(0)


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


PLACED = [loop, folder, os.mkfifo, huge, endless, unreadable, deep, binary, Path.touch]


@pytest.fixture
def notes():
    return []


@pytest.fixture
def store(tmp_path, notes):
    made = TrialStore(tmp_path / "store", notes.append)
    keep(made, TRIAL)
    assert made.find(TRIAL) is not None
    return made


def replace(path: Path, place) -> None:
    path.unlink()
    place(path)


def require_redone(store, notes) -> None:
    assert store.find(TRIAL) is None
    (note,) = notes
    assert note.endswith(": the trial is redone")
    assert "\n" not in note
    with pytest.raises(InputError, match=f"{TRIAL}/"):
        store.load(TRIAL)
    keep(store, TRIAL)
    assert store.find(TRIAL)["criterion"] == 1.0, "what lies in the way does not prevent a new result"


@pytest.mark.parametrize("place", PLACED, ids=lambda place: place.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else_is_told_and_redone(store, notes, name, place):
    replace(Path(store.storage.url, TRIAL, name), place)
    require_redone(store, notes)


@pytest.mark.parametrize("place", [loop, os.mkfifo, binary], ids=lambda place: place.__name__)
def test_a_trial_that_is_no_folder_is_redone(store, notes, place):
    path = Path(store.storage.url, TRIAL)
    path.rename(path.with_name("elsewhere"))
    place(path)
    assert store.fingerprints() == {TRIAL, "elsewhere"}
    require_redone(store, notes)


def test_a_trial_that_is_a_link_to_a_folder_stays_one(store):
    path = Path(store.storage.url, TRIAL)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    keep(store, TRIAL, criterion=2.0)
    assert path.is_symlink()
    assert store.find(TRIAL)["criterion"] == 2.0


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"status": "victorious"},
        {"criterion": "1.0"},
        {"criterion": None},
        {"criterion": True},
        {"history": [1.0]},
        {"history": [{"train_loss": 1.0}]},
        {"best_epoch": 3},
        {"best_epoch": -1},
        {"seconds": []},
        {"shape": "wide"},
        {"classes": 2.5},
        {"weights_bytes": "many"},
        {"weights_sha256": None},
        {"trial": {"model": "vae"}},
        {"trial": None},
        {"data_digest": 7},
        {"status": "pruned", "epoch": "last"},
        {"status": "failed"},
    ],
    ids=str,
)
def test_a_record_of_another_form_is_told_and_redone_though_its_digest_is_right(store, notes, change):
    path = Path(store.storage.url, TRIAL, "trial.json")
    content = json.loads(path.read_text()) | change
    content = {key: value for key, value in content.items() if value is not None and key != "sha256"}
    path.write_bytes(record_bytes(content))
    require_redone(store, notes)


def test_numbers_that_are_not_finite_are_damage(store, notes):
    path = Path(store.storage.url, TRIAL, "trial.json")
    path.write_text(path.read_text().replace('"criterion": 1.0', '"criterion": NaN'))
    require_redone(store, notes)


def test_a_store_elsewhere_that_does_not_answer_is_not_redone(tmp_path, notes, monkeypatch):
    def no_answer(*given):
        raise OSError("connection refused")

    store = TrialStore(f"local://{tmp_path}/store", notes.append)
    keep(store, TRIAL)
    monkeypatch.setattr(Storage, "read", no_answer)
    monkeypatch.setattr(store_module, "PAUSES", (0.01, 0.01))
    with pytest.raises(UnreachableError, match=r"train\.storage must answer, but local://.*: connection refused"):
        store.find(TRIAL)
    assert notes == []


@pytest.mark.parametrize(("failures", "found"), [(2, True), (3, False)])
def test_a_store_elsewhere_is_asked_again_before_it_is_given_up(tmp_path, notes, monkeypatch, failures, found):
    answers, read = iter([False] * failures), Storage.read

    def at_first_not(*given):
        if next(answers, True):
            return read(*given)
        raise OSError("connection refused")

    store = TrialStore(f"local://{tmp_path}/store", notes.append)
    keep(store, TRIAL)
    monkeypatch.setattr(Storage, "read", at_first_not)
    monkeypatch.setattr(store_module, "PAUSES", (0.01, 0.01))
    if found:
        assert store.find(TRIAL)
    else:
        with pytest.raises(UnreachableError):
            store.find(TRIAL)


def test_a_winner_that_was_replaced_after_it_was_ranked_is_not_taken(store, tmp_path):
    ranked = store.find(TRIAL)
    keep(store, TRIAL, criterion=5.0, weights=b"others")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="must stay as it was ranked, but has changed: run again"):
        store.fetch(ranked, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("place", [folder, loop, os.mkfifo], ids=lambda place: place.__name__)
def test_what_lies_in_place_of_the_lock_blocks_no_sweep(tmp_path, place):
    (tmp_path / "store").mkdir()
    place(tmp_path / "store/.lock")
    with exclusive(TrialStore(tmp_path / "store")):
        assert (tmp_path / "store/.lock").is_file()


# Beside the trials


@pytest.fixture
def quick_fit(monkeypatch):
    """Features that depend on their images, without training."""

    def fit(images, seed):
        torch.manual_seed(int(images.sum()))
        return SimpleNamespace(body=encoder(images.shape[1:]))

    monkeypatch.setattr(SelfSupervisedFeatures, "fit", fit)


@pytest.mark.parametrize("place", PLACED, ids=lambda place: place.__name__)
@pytest.mark.parametrize("outer", [False, True], ids=["file", "folder"])
def test_features_that_are_something_else_are_fitted_anew(digits, quick_fit, tmp_path, place, outer):
    storage = Storage(tmp_path)
    first = pinned_features(digits[:40], "a" * 64, storage)
    (path,) = tmp_path.glob(".features/*")
    if outer:
        path.parent.rename(tmp_path / "elsewhere")
        path = path.parent
    else:
        path.unlink()
    place(path)
    for _ in range(2):
        assert pinned_features(digits[:40], "a" * 64, storage).content == first.content


def test_features_of_other_data_or_with_other_weights_are_fitted_anew(digits, quick_fit, tmp_path):
    storage, found = Storage(tmp_path), {}
    for key, images in (("a" * 64, digits[:40]), ("b" * 64, digits[40:80])):
        found[key] = pinned_features(images, key, storage).content
    one, other = sorted(tmp_path.glob(".features/*"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    for key, images in (("a" * 64, digits[:40]), ("b" * 64, digits[40:80])):
        assert pinned_features(images, key, storage).content == found[key]
    one.write_bytes(bytes([*one.read_bytes()[:-40], 1, *one.read_bytes()[-39:]]))
    for key, images in (("a" * 64, digits[:40]), ("b" * 64, digits[40:80])):
        assert pinned_features(images, key, storage).content == found[key]


COST = Cost(2, 10**9, epoch=1.0, step=0.5, weights=100, checkpoint=200)


@pytest.mark.parametrize("place", PLACED, ids=lambda place: place.__name__)
def test_costs_that_are_something_else_are_measured_anew(tmp_path, place):
    storage = Storage(tmp_path)
    cost.save("k", COST, storage)
    replace(tmp_path / ".costs/k.json", place)
    assert cost.load("k", storage) is None
    cost.save("k", COST, storage)
    assert cost.load("k", storage) == COST


@pytest.mark.parametrize(
    "change", [{"key": "other"}, {"step": "fast"}, {"epoch": -1.0}, {"workers": 0}, {"memory": True}, {"start": None}]
)
def test_costs_of_another_key_or_form_are_measured_anew(tmp_path, change):
    storage = Storage(tmp_path)
    cost.save("k", COST, storage)
    path = tmp_path / ".costs/k.json"
    content = {key: value for key, value in (json.loads(path.read_text()) | change).items() if key != "sha256"}
    path.write_bytes(record_bytes(content))
    assert cost.load("k", storage) is None


def test_the_digest_of_a_record_is_that_of_its_content():
    content = json.loads(record_bytes(record(TRIAL)))
    assert content.pop("sha256") == digest(json.dumps(record(TRIAL), sort_keys=True).encode())
    assert content == record(TRIAL)
