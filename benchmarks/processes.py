"""Run a command and watch the memory of every process that comes of it.

Ray's processes outlive and leave their parent, so they are found by a mark in the environment, which all inherit.
"""

import itertools
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "LATENTMILL_BENCHMARK"
KIB = re.compile(r"^(VmRSS|Rss\w+):\s*(\d+) kB$", re.MULTILINE)  # in a process's status


@dataclass(frozen=True)
class Memory:
    """Of a process, in bytes."""

    proportional: int  # its own pages, and its share of those that others map too
    own: int  # anonymous and shared memory, Ray's object store too, without the pages of mapped files
    resident: int  # with these


@dataclass(frozen=True)
class Run:
    """What a command did."""

    output: str  # stdout and stderr
    seconds: float
    peak_bytes: int  # of all its processes together: proportional set sizes, which count shared pages once
    silence: float  # the longest time without a line, in seconds
    largest_own: int  # bytes of its largest process, without the pages of mapped files
    largest_resident: int  # the same with them


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> Run:
    """Run `command` in `folder` to its end, with a look at the memory each second.

    Raises:
        CalledProcessError: the exit status is not 0.
    """
    mark, peak, own, resident = uuid.uuid4().hex, 0, 0, 0
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
        found = list(memory_of(mark))
        peak = max(peak, sum(each.proportional for each in found))
        own, resident = max([own, *(each.own for each in found)]), max([resident, *(each.resident for each in found)])
    seconds = time.perf_counter() - started
    listener.join()
    said = "".join(listener.lines)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output=said[-4000:])
    times = [0.0, *listener.times, seconds]
    silence = max(later - earlier for earlier, later in itertools.pairwise(times))
    return Run(said, seconds, peak, silence, own, resident)


class Listener(threading.Thread):
    """Reads what a process says, and notes when."""

    def __init__(self, process: "subprocess.Popen[str]", started: float) -> None:
        super().__init__(daemon=True)
        self.process, self.started = process, started
        self.lines, self.times = list[str](), list[float]()

    def run(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.lines.append(line)
                self.times.append(time.perf_counter() - self.started)


def ended(process: "subprocess.Popen[str]") -> bool:
    """Whether `process` ended within the next second."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return False
    return True


def memory_of(mark: str) -> Iterator[Memory]:
    """Of each process with `mark`."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                proportional, text = (
                    process.memory_full_info().pss,
                    Path(f"/proc/{process.pid}/status").read_text("utf-8"),
                )
                kib = {name: int(size) for name, size in KIB.findall(text)}
                yield Memory(proportional, 1024 * (kib["RssAnon"] + kib["RssShmem"]), 1024 * kib["VmRSS"])
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError, KeyError):
            continue  # it ended meanwhile, or is another user's


def environment_of(source: Path) -> dict[str, str]:
    """This one, with `source` before the installed package and no word sent to anyone."""
    return {**os.environ, "PYTHONPATH": str(source), "DVC_NO_ANALYTICS": "1"}
