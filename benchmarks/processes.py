"""Run a command and watch the memory of every process that comes of it.

Ray's processes outlive and leave their parent, so they are found by a mark in the environment, which all inherit.
"""

import itertools
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "LATENTMILL_BENCHMARK"


@dataclass(frozen=True)
class Run:
    """What a command did."""

    output: str  # stdout and stderr
    seconds: float
    peak_bytes: int  # of all its processes together: proportional set sizes, which count shared pages once
    silence: float  # the longest time without a line, in seconds


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> Run:
    """Run `command` in `folder` to its end, with a look at the memory each second.

    Raises:
        CalledProcessError: the exit status is not 0.
    """
    mark, peak = uuid.uuid4().hex, 0
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    listener = Listener(process, started)
    listener.start()
    while not ended(process):
        # Ray's object store is mapped by its daemon, and so counted among the pages of that.
        peak = max(peak, sum(proportional_bytes(mark)))
    seconds = time.perf_counter() - started
    listener.join()
    said = "".join(listener.lines)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output=said[-4000:])
    times = [0.0, *listener.times, seconds]
    return Run(said, seconds, peak, max(later - earlier for earlier, later in itertools.pairwise(times)))


class Listener(threading.Thread):
    """Reads what a process says, and notes when."""

    def __init__(self, process: "subprocess.Popen[str]", started: float) -> None:
        super().__init__(daemon=True)
        self.process, self.started = process, started
        self.lines, self.times = list[str](), list[float]()

    def run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self.times.append(time.perf_counter() - self.started)


def ended(process: "subprocess.Popen[str]") -> bool:
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
