"""What `fuzz.py` finds at each door, with a fixed seed: only refusals of one short line, in bounded time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import DOORS

FUZZ = Path(__file__).parent / "fuzz.py"


def fuzz(door: str, count: int, seed: int) -> None:
    """In a process of its own, whose memory is bounded."""
    command = [sys.executable, FUZZ, door, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.startswith(f"{door}: ")


@pytest.mark.parametrize("door", DOORS)
def test_changed_contents_are_taken_or_refused_in_a_line(door: str) -> None:
    fuzz(door, count=25, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_many_more_are_too(door: str) -> None:
    fuzz(door, count=2000, seed=1)
