"""Progress says something every few seconds, through every phase and also while nothing is told."""

import re
import time

import pytest

from latentmill import heartbeat, progress
from latentmill.progress import Progress


def test_lines_say_what_is_done_and_what_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress("looking for files")
    now[0] += 9
    assert shown.phase.line() == "looking for files (9.0 s so far)"
    shown.update("images decoded", 0, 1000)
    now[0] += 5
    shown.update("images decoded", 250, 1000)
    assert shown.phase.line() == "250 of 1,000 images decoded, 15 s left"
    now[0] += 5
    assert shown.phase.line() == "250 of 1,000 images decoded, 10 s left", "time goes by within a step too"
    now[0] += 50
    assert shown.phase.line() == "250 of 1,000 images decoded (1:00 so far)", "a step that takes long is no estimate"
    shown.update("images compared", 2, 2)
    assert shown.phase.line() == "2 of 2 images compared (0.0 s so far)"


def test_a_long_step_is_not_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.1)
    heartbeat.mark_printed()
    with Progress("looking for files") as shown:
        time.sleep(0.25)
        shown.update("files digested", 0, 1)
        time.sleep(0.25)
    said = capsys.readouterr().out
    assert re.search(r"^looking for files \(0.\d s so far\)\n", said)
    assert re.search(r"\n0 of 1 files digested \(0.\d s so far\)\n", said)
    time.sleep(0.15)
    assert capsys.readouterr().out == ""
