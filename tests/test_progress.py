"""Progress says something every few seconds, through every phase."""

import pytest

from latentmill import progress
from latentmill.progress import Progress


def test_lines_say_what_is_done_and_what_time_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress() as shown:
        for done in range(0, 1001, 50):
            shown.tell("images decoded", done, 1000)
            now[0] += 1
        for done in range(0, 1001, 500):
            shown.tell("images compared", done, 1000)
            now[0] += 6
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["250 of 1,000 images decoded, 15 s left", "500 of 1,000 images decoded, 10 s left"]
    assert said[-2:] == [
        "500 of 1,000 images compared, 6 s left",
        "1,000 of 1,000 images compared, 0 s left",
    ]
