"""What of the trial store no plan needs, and that all else survives its deletion."""

import numpy as np
import pytest
from test_tracking import DIGEST, train

from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import Params
from latentmill.data.batches import Batches
from latentmill.data.dataset import stored_as
from latentmill.errors import InputError
from latentmill.tracking.observers import Observer
from latentmill.trials.plan import Plan
from latentmill.trials.running import Context
from latentmill.trials.store import TrialStore
from latentmill.trials.unneeded import free, unneeded

PRIORS = {"normal": {}, "mixture": {"components": 2}, "blend": {"model": "mixture", "components": 3}}


def planned(folder, latents, priors=("normal", "mixture"), digest=DIGEST):
    ladder = {"naive_bayes": {}, "vae": {"latent": latents, "epochs": 1, "priors": list(priors)}}
    sections = {"data": {"source": "digits"}, "trial": {}, "evaluation": {}, "export": {}, "train": {}}
    params = Params.model_validate(sections | {"ladder": ladder, "priors": PRIORS})
    return Plan(params, digest, TrialStore(folder), optuna_rounds)


@pytest.fixture
def trained(digits, tmp_path):
    """A folder of trials, and what trains more."""

    def train_missing(plan):
        halves = [
            Batches(digits[rows], "cpu", np.zeros(len(digits[rows]), np.int64))
            for rows in (slice(500), slice(500, None))
        ]
        train(plan, Context(*halves, plan.data_digest, plan.store, 1), Observer())
        return plan

    train_missing(planned(tmp_path, [2, 3]))
    return tmp_path, train_missing


def test_nothing_that_the_plan_has_is_deleted(trained):
    folder, _ = trained
    plan = planned(folder, [2, 3])
    found = unneeded(plan)
    assert found.trials == {}
    assert found.summary == "0 of 4 trials are not needed: 0.0 MB"


def test_what_other_params_have_trained_is_deleted_and_the_rest_is_not_trained_again(trained):
    folder, train_missing = trained
    kept = train_missing(planned(folder, [3], ("mixture", "blend")))
    found = unneeded(kept)
    assert found.kept == len(kept.planned) == 4
    assert found.trials
    assert all(size > 1000 for size in found.trials.values())
    free(kept.store, found)
    assert not any((folder / name).exists() for name in found.trials)
    assert planned(folder, [3], ("mixture", "blend")).missing == 0


def test_all_trials_of_other_images_are_not_needed(trained):
    folder, _ = trained
    plan = planned(folder, [2, 3], digest="b" * 64)
    assert unneeded(plan).kept == 0


def test_other_folders_stay(trained):
    folder, _ = trained
    (folder / "mine").mkdir()
    plan = planned(folder, [2], digest="b" * 64)
    free(plan.store, unneeded(plan))
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["mine"]


def test_data_sets_of_other_images_are_deleted(trained):
    folder, _ = trained
    plan = planned(folder, [2, 3])
    for digest in (DIGEST, "b" * 64):
        plan.store.storage.write(f"{stored_as(digest)}/train.npy", bytes(2_000_000))
    found = unneeded(plan)
    assert found.summary == "0 of 4 trials are not needed: 0.0 MB; 1 data set of other images: 2.0 MB"
    free(plan.store, found)
    assert plan.store.storage.names(prefix=".data-") == [stored_as(DIGEST)]


def test_what_can_not_be_deleted_ends_it_in_a_line(trained, monkeypatch):
    folder, _ = trained
    plan = planned(folder, [2], digest="b" * 64)

    def refuse(name):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(plan.store.storage, "delete", refuse)
    with pytest.raises(InputError, match=r"must be deletable, but .* Operation not permitted"):
        free(plan.store, unneeded(plan))
