"""Run a command and watch the memory of every process that comes of it.

Ray's processes outlive and leave their parent, so they are found by a mark in the environment, which all inherit.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "LATENTMILL_BENCHMARK"
SHARED = "/dev/shm"  # where Ray keeps its objects


@dataclass(frozen=True)
class Run:
    """What a command did."""

    output: str  # stdout and stderr
    seconds: float
    peak_bytes: int  # of all its processes together


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> Run:
    """Run `command` in `folder` to its end, with a look at the memory each second.

    Raises:
        CalledProcessError: the exit status is not 0.
    """
    mark, peak, log = uuid.uuid4().hex, 0, folder / ".benchmark.log"
    shared_before = psutil.disk_usage(SHARED).used
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**environment, MARK: mark}, stdout=output, stderr=subprocess.STDOUT
        )
        while not ended(process):
            peak = max(peak, sum(proportional_bytes(mark)) + psutil.disk_usage(SHARED).used - shared_before)
    seconds, said = time.perf_counter() - started, log.read_text()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output=said[-4000:])
    return Run(said, seconds, peak)


def ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether `process` ended within the next second."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return False
    return True


def proportional_bytes(mark: str) -> Iterator[int]:
    """Of each process with `mark`: its own pages, and its share of those that others map too."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile, or is another user's


def environment_of(source: Path) -> dict[str, str]:
    """This one, with `source` before the installed package and no word sent to anyone."""
    return {**os.environ, "PYTHONPATH": str(source), "DVC_NO_ANALYTICS": "1"}
