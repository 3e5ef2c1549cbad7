"""The sweep on a real, private Ray cluster."""

import psutil
import pytest
from safetensors.numpy import load_file
from test_trials import DIGEST, vae

from latentmill import sweep, variants
from latentmill.config import SweepConfig
from latentmill.training.trials import Trial, TrialStore

IMPOSSIBLE = Trial("ppca", variants.find("ppca").Config(latent=64).model_dump(), None, 0)  # as many factors as pixels


@pytest.fixture(scope="module")
def swept(digits, tmp_path_factory):
    """The same four trials, one of which fails, on one worker and on two: (store, errors, what was told)."""
    asked = [vae(seed=0), IMPOSSIBLE, vae(seed=1), vae(epochs=4)]
    missing = {trial.fingerprint(DIGEST): trial for trial in asked}
    found = {}
    for workers in (1, 2):
        store, told = TrialStore(tmp_path_factory.mktemp("store")), []
        errors = sweep.run(
            missing,
            digits[:500],
            digits[500:],
            DIGEST,
            store,
            SweepConfig(workers=workers),
            told.append,
        )
        found[workers] = store, errors, told
    return missing, found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_fails_is_named_and_stops_no_other(swept, workers):
    missing, found = swept
    store, errors, told = found[workers]
    failed = IMPOSSIBLE.fingerprint(DIGEST)
    assert list(errors) == [failed]
    assert "InputError: latent must be below the number of images and of pixels, 64" in errors[failed]
    assert "\n" not in errors[failed]
    assert {key for key in missing if store.find(key)} == set(missing) - {failed}
    assert sorted(told) == sorted(missing)


def test_one_worker_and_two_give_the_same_weights(swept):
    missing, found = swept
    one, two = (found[workers][0] for workers in (1, 2))
    for key in set(missing) - {IMPOSSIBLE.fingerprint(DIGEST)}:
        weights, others = (load_file(store.folder(key) / "model.safetensors") for store in (one, two))
        assert all((weights[name] == others[name]).all() for name in weights)


def test_no_process_of_ray_is_left(swept):
    ours = psutil.Process().children(recursive=True)
    assert [process.name() for process in ours if "ray" in process.name() or "raylet" in process.name()] == []


def test_the_longest_trials_start_first():
    naive = Trial("naive_bayes", {"pseudocount": 1.0}, None, 0)
    order = sweep.longest_first([naive, vae(epochs=2), vae(epochs=9), vae(epochs=2, seed=1)])
    assert order == [vae(epochs=9), vae(epochs=2, seed=1), vae(epochs=2), naive]
