"""The sweep on a real, private Ray cluster."""

import numpy as np
import psutil
import pytest
from conftest import CLASSES
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from latentmill.cluster.images import Images
from latentmill.cluster.mapped import ChangedDataError, placed
from latentmill.cluster.rounds import optuna_rounds
from latentmill.cluster.sweep import run
from latentmill.config import Params
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import pinned_features
from latentmill.trials.results import outcomes, ranking
from latentmill.trials.store import TrialStore
from latentmill.trials.warm_start import WarmStart

DIGEST = "a" * 64
LADDER = {
    "naive_bayes": {},
    "impossible": {"model": "ppca", "latent": 64},  # as many factors as pixels
    "vae": {"latent": [2, 3]},
}


class Listener:
    """Records its calls."""

    def __init__(self):
        self.starts, self.reports, self.ends, self.notes = [], [], [], []

    def started(self, planned):
        self.starts.append(planned.fingerprint)

    def progressed(self, planned, result):
        self.reports.append((planned.fingerprint, result["epoch"]))

    def ended(self, planned, record):
        self.ends.append((planned.fingerprint, record["status"]))

    def noted(self, sentence):
        self.notes.append(sentence)


def swept(digits, folder, ladder=LADDER, trial=None, **train):
    """A sweep into `folder`: (plan, listener)."""
    content = {
        "data": {"source": "digits"},
        "trial": {"epochs": 3, "batch_size": 50} | (trial or {}),
        "priors": {"normal": {}, "mixture": {"components": 2}, "flow": {"epochs": 2, "hidden": 8}},
        "evaluation": {},
        "export": {},
    }
    params = Params.model_validate(content | {"ladder": ladder, "train": {"storage": str(folder)} | train})
    store = TrialStore(folder)
    features = pinned_features(digits[:500], DIGEST, store.storage) if "gan" in ladder else None
    warm_start = WarmStart(params.train.warm_start, digits.shape[1:], CLASSES) if params.train.warm_start else None
    pinned, listener = features and features.digest, Listener()
    plan = Plan(params, DIGEST, store, optuna_rounds, pinned, warm_start=warm_start)
    plan.features = features
    if plan.missing:
        labels = load_digits().target[:600]
        run(plan, Images(digits[:500], digits[500:], (labels[:500], labels[500:]), CLASSES), listener, features)
    return plan, listener


@pytest.fixture(scope="module")
def twice(digits, tmp_path_factory):
    """The same trials, one of which fails, on one worker and on two."""
    return {workers: swept(digits, tmp_path_factory.mktemp("store"), workers=workers) for workers in (1, 2)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_fails_is_named_and_stops_no_other(twice, workers):
    plan, listener = twice[workers]
    assert [plan.records[planned.fingerprint]["status"] for planned in plan.planned] == [
        "finished",
        "failed",
        "finished",
        "finished",
    ]
    error = plan.records[plan.planned[1].fingerprint]["error"]
    assert "InputError: latent must be below the number of images and of pixels, 64" in error
    assert sorted(listener.starts) == sorted(planned.fingerprint for planned in plan.planned)
    assert dict(listener.ends) == {key: record["status"] for key, record in plan.records.items()}


def test_one_worker_and_two_give_the_same_winners_and_weights(twice):
    (one, _), (two, _) = twice[1], twice[2]
    winners = [ranking(outcomes(plan.planned, plan.records)) for plan in (one, two)]
    names = [{entry: found[0].best.planned.fingerprint for entry, found in each.items()} for each in winners]
    assert names[0] == names[1]
    for fingerprint in names[0].values():
        weights, others = (
            load_file(f"{plan.store.storage.url}/{fingerprint}/model.safetensors") for plan in (one, two)
        )
        assert all((weights[name] == others[name]).all() for name in weights)


def test_no_process_of_ray_is_left(twice):
    ours = psutil.Process().children(recursive=True)
    assert [process.name() for process in ours if "ray" in process.name()] == []


def test_data_that_change_end_the_sweep_and_are_no_trials_failure(digits, tmp_path, monkeypatch):
    np.save(tmp_path / "train.npy", digits)

    def replaced(images, storage):
        """Mapped, and then another file under its path."""
        found = placed(np.lib.format.open_memmap(tmp_path / "train.npy", mode="r"), storage)
        found.origin = (found.origin[0], (1, 2, 3), None)
        return found

    monkeypatch.setattr("latentmill.cluster.sweep.placed", replaced)
    with pytest.raises(ChangedDataError, match=r"must stay as it is .*train\.npy has changed: run again"):
        swept(digits, tmp_path / "store", {"naive_bayes": {}, "vae": {"latent": 2}}, workers=1)
    assert list((tmp_path / "store").rglob("trial.json")) == []


@pytest.mark.slow
def test_asha_prunes_bad_trials_and_never_ranks_them(digits, tmp_path):
    ladder = {"vae": {"latent": 3, "learning_rate": [1e-9, 1e-8, 1e-7, 1e-6, 1e-3]}}
    asha = {"grace": 2, "reduction": 2}
    plan, listener = swept(digits, tmp_path, ladder, {"epochs": 9}, asha=asha, workers=1)
    statuses = [plan.records[planned.fingerprint]["status"] for planned in plan.planned]
    assert statuses[-1] == "finished", "the last of an entry starts first"
    assert "pruned" in statuses
    (winner,) = ranking(outcomes(plan.planned, plan.records)).values()
    assert winner[0].best.planned.trial.training["learning_rate"] == 1e-3
    again, _ = swept(digits, tmp_path, ladder, {"epochs": 9}, asha=asha, workers=1)
    assert again.missing == 0, "what was pruned stays pruned"
    full, listener = swept(digits, tmp_path, ladder, {"epochs": 9}, workers=1)
    assert {full.records[planned.fingerprint]["status"] for planned in full.planned} == {"finished"}
    first_epochs = dict(reversed(listener.reports))
    assert min(first_epochs.values()) > 2, "without asha they go on from where they were stopped"


@pytest.mark.slow
def test_a_sweep_out_of_time_keeps_what_it_has(digits, tmp_path):
    endless = {"epochs": 10**6, "max_steps": 10**9, "patience": 10**6}
    ladder = {"naive_bayes": {}, "endless": {"model": "vae", **endless}}
    for attempt in range(1, 6):  # on a machine that is busy with more, it takes longer to get there
        plan, _ = swept(digits, tmp_path, ladder, max_seconds=6 * attempt, workers=2)
        done, folder = ranking(outcomes(plan.planned, plan.records)), tmp_path / plan.planned[1].fingerprint
        if done and list(folder.glob("checkpoint-*")):
            break
    assert list(done) == ["naive_bayes"]
    assert list(folder.glob("checkpoint-*")), "it would go on from here"


@pytest.mark.slow
def test_priors_are_trained_on_the_workers_and_go_on_after_an_interruption(digits, tmp_path):
    ladder = {"vae": {"latent": 3, "priors": ["normal", "mixture", "flow"]}, "autoencoder": {"latent": 2}}
    plan, listener = swept(digits, tmp_path, ladder, workers=2)
    assert [planned.label for planned in plan.planned] == ["vae", "autoencoder", "vae/mixture", "vae/flow"]
    assert {record["status"] for record in plan.records.values()} == {"finished"}
    vae, flow = plan.planned[0], plan.planned[3]
    record = plan.records[flow.fingerprint]
    assert record["shape"] == [3]
    assert record["parent_weights_sha256"] == plan.records[vae.fingerprint]["weights_sha256"]
    reported = [epoch for name, epoch in listener.reports if name == flow.fingerprint]
    assert reported in ([1], [1, 2]), "the second epoch too, where it ends after the pause between reports"
    (tmp_path / flow.fingerprint / "trial.json").unlink()
    again, listener = swept(digits, tmp_path, ladder, workers=2)
    assert listener.starts == [flow.fingerprint], "nothing else is trained again"
    assert again.records[flow.fingerprint]["weights_sha256"] == record["weights_sha256"]
