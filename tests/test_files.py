"""Folders and files that are there whole or not at all."""

import signal
import subprocess
import sys

import pytest

from latentmill.files import clear_leftovers, replacing_folder, write_json, write_text

HALF_WAY = """
import os, signal, sys
from pathlib import Path
from latentmill.files import replacing_folder

with replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("half of the new")
    os.kill(os.getpid(), signal.SIGKILL)
"""

OVER_AND_OVER = """
import sys
from pathlib import Path
from latentmill.files import replacing_folder, write_text

target = Path(sys.argv[1])
for number in range(200):
    with replacing_folder(target) as folder:
        (folder / "a").write_text(str(number))
    write_text(target.with_suffix(".txt"), str(number))
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


@pytest.mark.parametrize("name", [".vae.partial", ".vae.0123abcd.partial"])
def test_what_killed_runs_left_is_cleared_without_a_new_run(target, name):
    (target.with_name(name)).mkdir()
    (target.with_name(name) / "a").write_text("half of the new")
    target.rename(target.with_name(".vae.previous"))
    clear_leftovers(target.parent)
    assert files(target) == {"vae/a": "old"}


def test_two_processes_that_replace_a_folder_at_once_do_not_share_one(target):
    """As where `dvc repro` was killed, its stage still runs, and the next `dvc repro` has begun."""
    with replacing_folder(target) as first:
        (first / "a").write_text("of the first")
        with replacing_folder(target) as second:
            clear_leftovers(target.parent)
            (second / "a").write_text("of the second")
        assert files(target)["vae/a"] == "of the second"
    assert files(target) == {"vae/a": "of the first"}


def test_processes_that_replace_a_folder_over_and_over_lose_none(target):
    command = [sys.executable, "-c", OVER_AND_OVER, target]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate()[1] for process in running]
    assert told == [""] * 3
    assert files(target) == {"vae/a": "199", "vae.txt": "199"}


def test_what_killed_writers_of_a_file_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".trials.csv.0123abcd.partial").write_text("half")
    (tmp_path / ".other.csv.0123abcd.partial").write_text("another file's")
    write_text(tmp_path / "trials.csv", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.csv.0123abcd.partial", "trials.csv"]


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": '{\n  "a": 1\n}\n'}
