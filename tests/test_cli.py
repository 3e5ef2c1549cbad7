"""The command `latentmill plan`; `sample` and `submit` have tests of their own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import keep
from sites import SECTIONS, Site

from latentmill import registry
from latentmill.cli import main
from latentmill.cluster import measuring
from latentmill.data.dataset import combined_digest, read_split
from latentmill.errors import InputError
from latentmill.project.commands import MEASURING
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


@pytest.mark.slow
def test_plan_lists_every_trial_before_anything_trains(site):
    lines = [line for line in plan(site).splitlines() if not line.startswith(MEASURING)]
    assert [line.split(maxsplit=3)[1:] for line in lines[:3]] == [
        ["to", "train", "naive_bayes"],
        ["to", "train", "vae latent=2"],
        ["to", "train", "vae latent=3"],
    ]
    assert lines[3].startswith("observation: auto is ")
    assert lines[-2] == "3 trials: 0 already trained, 3 to train"
    assert re.fullmatch(r"about .* on \d+ workers, .* GiB a worker, \d+ MB of disk", lines[-1])
    assert TrialStore(site.store).fingerprints() == set(), "a look must not make a trial"


@pytest.fixture
def look(site, monkeypatch, capsys):
    """`latentmill plan` without measuring, which takes a Ray cluster: its lines."""
    monkeypatch.chdir(site.root)
    monkeypatch.setattr(measuring, "measured", lambda missing, *_: {})

    def look():
        main(["plan"])
        return capsys.readouterr().out.splitlines()

    return look


def test_plan_says_what_is_done(site, look):
    first = look()[0].split()[0]
    (site.store / first).mkdir(parents=True)
    keep(TrialStore(site.store), first, "diverged")
    lines = look()
    assert lines[0].split() == [first, "diverged", "naive_bayes"]
    assert lines[-2] == "3 trials: 1 already trained, 2 to train"


def test_plan_tells_what_a_search_will_add(site, look):
    space = {"samples": 20, "latent": {"choice": [2, 3, 4]}, "beta": {"uniform": [0.5, 2.0]}}
    site.write_params({"vae": space}, search="optuna")
    assert look()[-2] == "8 trials: 0 already trained, 8 to train, up to 12 more when their results are known"


def test_plan_says_which_entries_the_data_does_not_suit(site, look):
    site.write_params({"conditional_vae": {}, "vae": {}})
    shape = read_split(site.root / "data/prepared", "train").shape[1:]
    with pytest.raises(InputError) as refused:
        registry.build("models", "conditional_vae", {}, shape)
    path = site.root / "data/prepared/manifest.json"
    manifest = json.loads(path.read_text())
    digests = {split: manifest["digests"][split] for split in ("train", "val", "test")}
    without = {"classes": None, "digests": digests, "digest": combined_digest(digests, None)}
    path.write_text(json.dumps(manifest | without))
    told = [line for line in look() if "will fail" in line]
    assert told == [f"conditional_vae will fail: {refused.value}"]


@pytest.mark.parametrize(("recorded", "told"), [(SECTIONS["data"], 0), ({"source": "digits", "size": 16}, 1)])
def test_plan_says_that_the_prepared_data_is_of_other_params(site, look, recorded, told):
    line = "data in params.yaml has changed since data/prepared was made: run `dvc repro prepare`"
    assert line not in look(), "DVC has not run"
    lock = {"stages": {"prepare": {"params": {"params.yaml": {"data": recorded}}}}}
    (site.root / "dvc.lock").write_text(json.dumps(lock))
    assert look().count(line) == told
    (site.root / "dvc.lock").write_text("{stages: [")
    assert line not in look()


def test_plan_needs_prepared_data(site):
    (site.root / "data/prepared/manifest.json").unlink()
    (line,) = plan(site, status=1).splitlines()
    assert line.startswith("error: ")
    assert "prepare" in line


def test_plan_says_where_there_is_no_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["plan"])
    assert capsys.readouterr().err.startswith(f"error: params.yaml must be a readable file, but in {tmp_path}: No such")


SLOW = {"ray", "optuna", "pandas", "matplotlib", "sklearn", "scipy", "onnx", "faiss", "torchmetrics"}
LOADED = f"import sys; from latentmill.cli import main; main(['plan', '--quick']); print({SLOW} & set(sys.modules))"


def test_a_look_at_the_plan_waits_for_nothing_but_torch(site):
    """Ray takes longer to import than all that a plan computes, and is needed only where a pace is measured."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=site.root, text=True, capture_output=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
    assert "3 trials: 0 already trained, 3 to train" in done.stdout


JUDGE = ["judge", "--samples", "missing", "--train", "missing"]


@pytest.mark.parametrize(
    ("arguments", "module", "told", "status"),
    [
        (["params"], "pydantic", "'latentmill[pipeline]'` adds, but pydantic is missing", 1),
        (["params"], "latentmill.config", None, 1),
        (JUDGE, "torch", "'latentmill[judge]'` adds, but torch is missing", 2),
    ],
)
def test_a_package_that_an_extra_asks_for_is_named(arguments, module, told, status):
    """Of `judge`, a status of 1 says that the samples fail."""
    code = f"import sys; sys.modules[{module!r}] = None; from latentmill.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == status
    assert ("Traceback" in done.stderr) == (told is None), "a fault of ours keeps its traceback"
    assert told is None or told in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    """As `latentmill models | head` does."""
    command = [sys.executable, "-c", "from latentmill.cli import main; main()", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 1)
