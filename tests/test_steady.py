"""What a stage is made of must not change while it runs, or DVC takes a stale result for up to date."""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from latentmill.errors import InputError
from latentmill.stage import require_as_imported, stale_stages, steady
from latentmill.trials.code import SOURCE

PIPELINE = """
stages:
  train:
    cmd: python train.py
    params: [trial, train.workers]
    deps: [data, code, train.py]
  export:
    foreach: ${ladder}
    do:
      cmd: python export.py ${key}
      deps: ["models/${key}"]
"""
PARAMS = "trial: {epochs: 3}\ntrain: {workers: 1, pack: auto}\nladder: {vae: {}, ppca: {}}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text(PARAMS)
    for folder in ("data", "code/inner", "models/vae", "models/ppca", "code/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "data" / "train.npy", np.zeros(5))
    for name in ("train.py", "code/inner/a.py", "models/vae/model", "models/ppca/model", "code/__pycache__/a.pyc"):
        (tmp_path / name).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (
            lambda root: (root / "params.yaml").write_text(PARAMS.replace("epochs: 3", "epochs: 7")),
            "trial in params.yaml",
        ),
        (lambda root: (root / "params.yaml").unlink(), "train.workers in params.yaml and 1 more"),
        (lambda root: np.save(root / "data" / "train.npy", np.ones(5)), "data/train.npy"),
        (lambda root: (root / "data" / "train.npy").unlink(), "data/train.npy"),
        (lambda root: (root / "code" / "inner" / "a.py").write_text("x = 2\n"), "code/inner/a.py"),
        (lambda root: (root / "code" / "inner" / "b.py").write_text(""), "code/inner/b.py"),
        (lambda root: (root / "train.py").write_text("y = 1\n"), "train.py"),
    ],
    ids=["param", "no params", "data", "data gone", "code", "code added", "stage"],
)
def test_what_changes_while_a_stage_runs_is_named(project, edit, named):
    rule = f"what the stage train is made of must stay the same while it runs, but {named} changed: run again"
    with pytest.raises(InputError, match=rule), steady("train"):
        edit(project)


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: (root / "params.yaml").write_text("# a comment\n" + PARAMS.replace("pack: auto", "pack: off")),
        lambda root: (root / "train.py").write_text("x = 1\n"),
        lambda root: (root / "code" / "__pycache__" / "a.pyc").write_text("y"),
        lambda root: (root / "code" / "inner" / ".a.py.swp").write_text("y"),
        lambda root: (root / "models" / "vae" / "model").write_text("y"),
        lambda root: (root / "other").write_text("y"),
    ],
    ids=["another param", "saved as it was", "bytecode", "an editor's", "another stage's", "a new file"],
)
def test_other_changes_are_none_of_its_concern(project, edit):
    with steady("train"):
        edit(project)


@pytest.mark.parametrize(
    ("key", "outcome"), [("vae", pytest.raises(InputError, match="models/vae")), ("ppca", nullcontext())]
)
def test_one_of_several_depends_on_its_own_alone(project, key, outcome):
    with outcome, steady("export", key):
        (project / "models" / "vae" / "model").write_text("changed")


def test_an_error_of_the_stage_is_not_hidden(project):
    with pytest.raises(FileNotFoundError), steady("train"):
        (project / "train.py").rename(project / "nowhere" / "train.py")


IMPORTS = """
import sys, time
from pathlib import Path
import latentmill.stage as stage
edited = Path(sys.argv[1])
edited.touch() if edited.suffix == ".py" else None
with stage.steady("train"):
    print("runs")
"""


@pytest.mark.parametrize(("name", "is_loaded"), [("errors.py", True), ("memory.py", False), ("nothing", False)])
def test_an_edit_after_the_import_of_a_file_is_noticed_before_the_stage_runs(project, name, is_loaded):
    """What runs is the old code, but DVC would record the new one."""
    package = project / "copied/latentmill"
    shutil.copytree(SOURCE / "latentmill", package, ignore=shutil.ignore_patterns("ort", "__pycache__"))
    given = [sys.executable, "-c", IMPORTS, package / name]
    path = {"PYTHONPATH": str(package.parent)}
    done = subprocess.run(given, cwd=project, env=os.environ | path, text=True, capture_output=True)
    assert done.stdout == ("" if is_loaded else "runs\n"), done.stderr
    rule = f"source files must stay the same while they are imported, but {package / name} changed: run again"
    assert (rule in done.stderr) == is_loaded


def test_a_file_whose_time_is_yet_to_come_is_of_another_clock(monkeypatch):
    monkeypatch.setattr("latentmill.BEGAN", 0)
    monkeypatch.setattr("latentmill.stage.time", SimpleNamespace(time_ns=lambda: 1))
    require_as_imported()
    monkeypatch.undo()
    monkeypatch.setattr("latentmill.BEGAN", 0)
    with pytest.raises(InputError, match="source files must stay the same"):
        require_as_imported()


def test_a_file_that_is_replaced_and_given_its_old_time_has_changed(project):
    def replace(path, found):
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    path = project / "data/train.npy"
    with pytest.raises(InputError, match=r"data/train\.npy changed: run again"), steady("train"):
        replace(path, path.stat())


def test_without_a_pipeline_nothing_is_compared(project):
    (project / "dvc.yaml").unlink()
    with steady("train"):
        (project / "train.py").write_text("y = 1\n")


SMALL = """
stages:
  scan: {cmd: echo 1 > listing, always_changed: true, outs: [listing: {cache: false}]}
  train: {cmd: cp data models, params: [trial], deps: [data], outs: [models]}
  export: {cmd: cp models exports, deps: [models], outs: [exports]}
"""


def test_what_is_of_other_data_params_or_outputs_is_stale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    assert stale_stages() == [], "DVC never ran"
    (tmp_path / "dvc.yaml").write_text(SMALL)
    (tmp_path / "params.yaml").write_text("trial: 1\n")
    (tmp_path / "data").write_text("a")
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([*dvc, *command], check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    assert stale_stages() == []
    for name, content, stages in (
        ("data", "b", ["train"]),
        ("params.yaml", "trial: 2\n", ["train"]),
        ("exports", "c", ["export"]),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content)
        assert stale_stages() == stages
        (tmp_path / name).write_text(before)
    (tmp_path / "data").unlink()
    assert stale_stages() == []
    (tmp_path / "dvc.yaml").write_text("stages: 7")
    with pytest.raises(InputError, match="`dvc status` must say what has changed, but"):
        stale_stages()
