"""Stages that are killed at any of their file operations, with their dvc, or by a full disk."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mounts import mounted
from test_pipeline import SMALL, Project

pytestmark = pytest.mark.faults
LADDER = {"naive_bayes": {}, "vae": {"latent": 2}}
COMMANDS = {  # the stages that a trial store does not protect, in their order
    "scan": ("pipeline/scan.py",),
    "prepare": ("pipeline/prepare.py",),
    "evaluate": ("pipeline/evaluate.py",),
    "export": ("pipeline/export.py",),
    "publish": ("pipeline/publish.py", "vae"),
    "champion": ("pipeline/champion.py",),
    "report": ("pipeline/report.py",),
}
MOMENTS = {  # the operations at which each is killed: all where that is quick, else some from first to last
    "scan": range(1, 6),
    "prepare": (2, 11, 21, 31, 39),
    "evaluate": (1, 20),
    "export": (1, 8, 25),
    "publish": range(1, 20),
    "champion": range(1, 28, 2),
    "report": (1, 5, 11),
}
EVALUATION = {"samples": 200, "importance_samples": 5, "likelihood_images": 20, "features": ["pixels"]}
# Runs a stage, which kills itself before a file operation of that number within the project.
KILLED = """
import os, runpy, signal, sys

moment, seen = int(sys.argv[1]), 0
sys.argv = sys.argv[2:]
here = os.getcwd()
changes = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def hook(event, given):
    global seen
    writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
    if event not in changes and not writes:
        return
    path = str(given[0])
    if os.path.isabs(path) and not path.startswith(here) or "__pycache__" in path:
        return
    seen += 1
    if seen == moment:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(hook)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose stages have all run."""
    made = Project(tmp_path_factory.mktemp("stages"))
    made.write_params(SMALL | {"ladder": LADDER, "trial": {"epochs": 1}, "evaluation": EVALUATION})
    made.run("dvc", "repro")
    return made


def stable(project) -> dict[str, bytes]:
    """What is the same whenever a stage has run: all but what holds times."""
    suffixes = (".onnx", ".npy", ".csv", ".txt", ".safetensors", ".png")
    return {name: content for name, content in project.outputs().items() if name.endswith(suffixes)}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """The outputs that are there and are not what they were; not what is on its way, under another name."""
    return [name for name, content in before.items() if after.get(name, content) != content]


def leftovers(project) -> list[str]:
    found = [*project.root.rglob(".*.partial"), *project.root.rglob(".*.previous")]
    return [str(path) for path in found if ".latentmill" not in path.parts]


def outdate(project, stage: str) -> None:
    """An export that is up to date would stay as it is."""
    if stage == "export":
        (project.root / "graphs/vae/manifest.json").unlink(missing_ok=True)


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_killed_at_a_file_operation_leaves_old_or_new_outputs_and_the_next_run_mends_all(project, stage):
    before, names, killed = stable(project), set(project.outputs()), 0
    for moment in MOMENTS[stage]:
        outdate(project, stage)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *COMMANDS[stage]],
            cwd=project.root,
            env=project.environment,
            text=True,
            capture_output=True,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed += done.returncode != 0
        assert changed(before, stable(project)) == []
    assert killed > 0.7 * len(MOMENTS[stage]), "the stage must have been killed to show anything"
    outdate(project, stage)
    project.run(sys.executable, *COMMANDS[stage])
    assert stable(project) == before
    assert set(project.outputs()) == names
    assert leftovers(project) == []


@pytest.mark.parametrize(("stage", "seed"), [("prepare", 100), ("evaluate", 101), ("export", 102), ("report", 103)])
def test_after_kill_9_of_dvc_its_stage_ends_and_dvc_repro_goes_on_at_once(project, stage, seed):
    """At once: what the dead `dvc repro` left may still be ending."""
    before, script = stable(project), COMMANDS[stage][0]
    outdate(project, stage)
    dvc = project.start("dvc", "repro", "--force", "--single-item", stage)
    running = _await(project, script)
    time.sleep(random.Random(seed).uniform(0.5, 3))
    dvc.kill()
    dvc.wait()  # or it stays a zombie of this process, whose locks DVC heeds
    said = project.run("dvc", "repro")
    gone = psutil.wait_procs([running], timeout=5)[0]
    assert gone == [running], "the stage must end with its dvc"
    assert "Traceback" not in said
    assert stable(project) == before
    assert leftovers(project) == []
    dvc.communicate()


def _await(project, script: str) -> psutil.Process:
    """The process that runs a stage of the project."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cwd", "cmdline"]):
            command = process.info["cmdline"] or []
            if process.info["cwd"] == str(project.root) and script in command and "python" in Path(command[0]).name:
                return process
        time.sleep(0.05)
    raise AssertionError(f"{script} must start")


@pytest.fixture
def on_a_small_disk(project, tmp_path):
    """The project on a disk of its own: (project, fill, free)."""
    with mounted(tmp_path / "disk", "size=60m") as disk:
        shutil.copytree(project.root, disk / "project", ignore=shutil.ignore_patterns(".git", "cache"))
        copy = Project.__new__(Project)
        copy.root = disk / "project"
        filler = disk / "filler"
        yield copy, lambda: _fill(filler), filler.unlink


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        room = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
        file.write(bytes(room - (8 << 10)))  # a folder and a small file still fit


def test_a_full_disk_ends_each_stage_in_one_line_and_with_room_it_goes_on(on_a_small_disk):
    project, fill, free = on_a_small_disk
    before, names = stable(project), set(project.outputs())
    for stage, command in COMMANDS.items():
        outdate(project, stage)
        fill()
        done = subprocess.run(
            [sys.executable, *command], cwd=project.root, env=project.environment, text=True, capture_output=True
        )
        free()
        if stage != "scan":  # which may fit
            assert done.returncode == 1, (stage, done.stdout, done.stderr)
            assert done.stderr.startswith("error: "), (stage, done.stderr)
            assert len(done.stderr.splitlines()) == 1, (stage, done.stderr)
        assert changed(before, stable(project)) == [], stage
        subprocess.run([sys.executable, *command], cwd=project.root, env=project.environment, check=True)
    assert stable(project) == before
    assert set(project.outputs()) == names
    assert leftovers(project) == []
