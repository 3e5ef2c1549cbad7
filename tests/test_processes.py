"""Decoding in several processes: any of them may die, and an interrupt ends them all and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile_files import picture, saved
from test_pipeline import heed_interrupts

from latentmill.data.processes import mapped
from latentmill.errors import InputError

ROOT = Path(__file__).parents[1]
PARAMS = "data: {source: folder, path: mine}\ntrial: {}\ntrain: {}\nladder: {vae: {}}\nevaluation: {}\nexport: {}\n"


def doubled(task: list[int], marks: str) -> list[int]:
    """7 ends its process, and 8 the first that computes it; 9 takes a while."""
    for number in task:
        mark = Path(marks) / str(number)
        if number == 7 or (number == 8 and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 9:
            time.sleep(0.3)
    return [2 * number for number in task]


def always_ends(task: list[int]) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_what_ends_its_process_costs_itself_alone(tmp_path: Path) -> None:
    tasks = [list(range(start, start + 5)) for start in range(0, 50, 5)]
    found: dict[int, Any] = {}
    for task, result in mapped(doubled, tasks, 2, str(tmp_path)):
        found |= dict(zip(task, result or [None], strict=True))
    assert found == {number: None if number == 7 else 2 * number for number in range(50)}


def test_processes_that_all_end_are_refused() -> None:
    with pytest.raises(InputError, match="processes must be able to start here, but 6 ended at once"):
        list(mapped(always_ends, [[number] for number in range(50)], 2))


def test_what_is_not_waited_for_is_ended() -> None:
    before = set(psutil.Process().children(recursive=True))
    results = mapped(slow, [[number] for number in range(50)], 2)
    next(results)
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 4
    left = [each for each in set(psutil.Process().children()) - before if "spawn_main" in " ".join(each.cmdline())]
    assert left == []


def slow(task: list[int]) -> list[int]:
    time.sleep(0.1 if task == [0] else 5)
    return task


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, -signal.SIGINT, "error: interrupted\n"),
        (signal.SIGTERM, 1, "error: ended by SIGTERM\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_an_interrupted_stage_leaves_neither_files_nor_processes(
    tmp_path: Path, number: signal.Signals, status: int, line: str
) -> None:
    (tmp_path / "mine").mkdir()
    large = saved(picture(0, side=2000), "PNG")
    for image in range(400):
        (tmp_path / f"mine/{image}.png").write_bytes(large)
    (tmp_path / "params.yaml").write_text(PARAMS.replace("mine}", "mine, size: 16}"), encoding="utf-8")
    command = [sys.executable, ROOT / "pipeline/prepare.py"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    stage = subprocess.Popen(command, cwd=tmp_path, text=True, preexec_fn=heed_interrupts, **pipes)
    children: list[psutil.Process] = []
    while len(children) < 2:
        time.sleep(0.1)
        children = [each for each in psutil.Process(stage.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    time.sleep(2)  # until they decode
    stage.send_signal(number)
    _, said = stage.communicate(timeout=60)
    assert stage.returncode == status
    assert said == line or number == signal.SIGKILL, "then Python itself tells of what it cleaned up"
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    if number != signal.SIGKILL:
        assert list((tmp_path / "data").iterdir()) == []
    for image in range(5, 400):
        (tmp_path / f"mine/{image}.png").unlink()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "val must have at least 2 images" in again.stderr, "and what is left hinders no other run"
    assert list((tmp_path / "data").iterdir()) == []
