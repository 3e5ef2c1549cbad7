"""Folders and files that are there whole or not at all."""

import signal
import subprocess
import sys

import pytest

from latentmill.files import clear_leftovers, replacing_folder, write_json

HALF_WAY = """
import os, signal, sys
from pathlib import Path
from latentmill.files import replacing_folder

with replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("half of the new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "exports" / "vae"
    with replacing_folder(folder) as partial:
        (partial / "a").write_text("old")
    return folder


def files(target) -> dict[str, str]:
    """Everything beside the target too, leftovers included."""
    return {
        str(path.relative_to(target.parent)): path.read_text() for path in target.parent.rglob("*") if path.is_file()
    }


def test_a_folder_is_replaced_as_a_whole(target):
    with replacing_folder(target) as partial:
        (partial / "b").write_text("new")
        assert (target / "a").read_text() == "old", "the old one is there until the new one is complete"
    assert files(target) == {"vae/b": "new"}


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_where_the_new_one_fails_the_old_one_stays(target, failure):
    def replace():
        with replacing_folder(target) as partial:
            (partial / "b").write_text("half of the new")
            raise failure

    with pytest.raises(failure):
        replace()
    assert files(target) == {"vae/a": "old"}


def test_after_a_kill_the_old_one_is_there_and_the_next_run_clears_up(target):
    done = subprocess.run([sys.executable, "-c", HALF_WAY, target], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (target / "a").read_text() == "old"
    with replacing_folder(target) as partial:
        (partial / "a").write_text("new")
    assert files(target) == {"vae/a": "new"}


def test_after_a_kill_between_the_two_renames_nothing_is_lost(target):
    target.rename(target.with_name(".vae.previous"))
    with pytest.raises(OSError), replacing_folder(target):  # noqa: PT011  # the next run fails too
        raise OSError
    assert files(target) == {"vae/a": "old"}


def test_what_killed_runs_left_is_cleared_without_a_new_run(target):
    (target.with_name(".vae.partial")).mkdir()
    (target.with_name(".vae.partial") / "a").write_text("half of the new")
    target.rename(target.with_name(".vae.previous"))
    clear_leftovers(target.parent)
    assert files(target) == {"vae/a": "old"}


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": '{\n  "a": 1\n}\n'}
