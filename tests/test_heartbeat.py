"""What is said while a long computation goes on, and how much time is said to be left."""

import itertools
import time

import pytest

from latentmill import heartbeat
from latentmill.heartbeat import Heartbeat, TimeLeft, print_line


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE", 0.2)
    heartbeat.mark_printed()


def test_a_silence_is_broken_and_no_more_often_than_needed(hurried):
    lines = []
    with Heartbeat("fitting", lines.append):
        time.sleep(0.9)
    assert 3 <= len(lines) <= 4
    assert lines[0].startswith("fitting (0.2 s so far)")


def test_what_is_told_meanwhile_counts(hurried, capsys):
    lines = []
    with Heartbeat("fitting", lines.append):
        for step in range(10):
            time.sleep(0.05)
            print_line(f"step {step}")
    assert lines == []
    assert capsys.readouterr().out.startswith("step 0\nstep 1\n")


def test_a_line_may_be_made_when_it_is_told(hurried):
    counter, lines = itertools.count(), []
    with Heartbeat("starting", lines.append) as beat:
        beat.doing = lambda: f"{next(counter)} done"
        time.sleep(0.5)
    assert lines == ["0 done", "1 done"]


def test_the_time_left_never_grows_and_a_wrong_one_is_not_told():
    left = TimeLeft()
    estimates = (None, 40.0, 45.0, 160.0, None, 10.0, 12.0)
    assert [left.shown(estimate) for estimate in estimates] == [None, 40, 40, None, None, 10, 10]
