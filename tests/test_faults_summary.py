"""The line with which `make faults` ends."""

import subprocess
import sys
from pathlib import Path

import pytest

SUMMARY = Path(__file__).with_name("faults_summary.py")
TESTS = """
import pytest

@pytest.mark.parametrize("number", [9, 15])
def test_kill(number): pass

def test_disk(): pytest.skip("only root can mount a disk")

def test_loses(): assert {holds}
"""


@pytest.mark.parametrize(
    ("holds", "told"),
    [
        (True, "faults: 3 tried, nothing lost; 1 not possible here"),
        (False, "faults: 3 tried, 1 not as promised: test_loses; 1 not possible here"),
    ],
)
def test_the_last_line_says_how_many_were_tried_and_what_was_lost(tmp_path, holds, told):
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "conftest.py").write_text(SUMMARY.read_text())
    (folder / "test_some.py").write_text(TESTS.format(holds=holds))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, folder]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0 if holds else 1, told)
