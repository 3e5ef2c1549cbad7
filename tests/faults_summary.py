"""`make faults` ends with one line: how many were tried, and whether anything was lost. Hooks for conftest.py."""

from pathlib import Path

import pytest

FOLDER = "faults"
LINE = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    kinds = ("passed", "failed", "error", "skipped")
    found = {kind: _tests(terminalreporter, kind) for kind in kinds}
    if any(found.values()):
        terminalreporter.config.stash[LINE] = summary(**{kind: sorted(names) for kind, names in found.items()})


def pytest_unconfigure(config: pytest.Config) -> None:
    """After all that pytest itself prints."""
    if LINE in config.stash:
        print(config.stash[LINE])


def summary(passed: list[str], failed: list[str], error: list[str], skipped: list[str]) -> str:
    """Of the names of tests, by how they ended."""
    wrong = sorted({*failed, *error})
    outcome = f"{len(wrong)} not as promised: {', '.join(wrong)}" if wrong else "nothing lost"
    more = f"; {len(skipped)} not possible here" if skipped else ""
    return f"faults: {len({*passed, *wrong})} tried, {outcome}{more}"


def _tests(reporter: pytest.TerminalReporter, kind: str) -> set[str]:
    reports = [each for each in reporter.stats.get(kind, []) if FOLDER in Path(each.nodeid.split("::")[0]).parts]
    return {each.nodeid.partition("::")[2] for each in reports}
