"""The command `latentmill plan`; `sample` and `submit` have tests of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
from sites import Site

from latentmill.trials.store import TrialStore

LADDER = {"naive_bayes": {}, "vae": {"latent": [2, 3], "epochs": 2}}


@pytest.fixture
def site(prepared, tmp_path):
    return Site(tmp_path).prepare(prepared, LADDER)


def plan(site, status=0) -> str:
    command = [Path(sys.executable).with_name("latentmill"), "plan"]
    done = subprocess.run(command, cwd=site.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == status, done.stdout
    return done.stdout


def test_plan_lists_every_trial_before_anything_trains(site):
    lines = plan(site).splitlines()
    assert [line.split(maxsplit=3)[1:] for line in lines[:3]] == [
        ["to", "train", "naive_bayes"],
        ["to", "train", "vae latent=2"],
        ["to", "train", "vae latent=3"],
    ]
    assert lines[3].startswith("observation: auto is ")
    assert lines[-1] == "3 trials: 0 already trained, 3 to train"
    assert not site.store.exists(), "a look must not make the store"


def test_plan_says_what_is_done(site):
    first = plan(site).split()[0]
    (site.store / first).mkdir(parents=True)
    TrialStore(site.store).save_result(first, {"fingerprint": first, "status": "diverged", "error": "nan"})
    lines = plan(site).splitlines()
    assert lines[0].split() == [first, "diverged", "naive_bayes"]
    assert lines[-1] == "3 trials: 1 already trained, 2 to train"


def test_plan_tells_what_a_search_will_add(site):
    space = {"samples": 20, "latent": {"choice": [2, 3, 4]}, "beta": {"uniform": [0.5, 2.0]}}
    site.write_params({"vae": space}, search="optuna")
    last = plan(site).splitlines()[-1]
    assert last == "8 trials: 0 already trained, 8 to train, up to 12 more when their results are known"


def test_plan_needs_prepared_data(site):
    (site.root / "data/prepared/manifest.json").unlink()
    (line,) = plan(site, status=1).splitlines()
    assert line.startswith("error: ")
    assert "prepare" in line
