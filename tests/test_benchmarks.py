"""The file of all figures: those of one machine never replace those of another."""

from dataclasses import asdict

from benchmarks.__main__ import merged
from benchmarks.target import Target

FAST, SMALL = Target("speed", "x", at_least=2), Target("size", "MB", at_most=1)


def test_new_figures_stand_beside_those_of_other_machines_and_of_other_groups() -> None:
    mine, other = {"cores": 2}, {"cores": 64}
    known = merged([], other, [FAST.result(9.0)])
    known = merged(known, mine, [FAST.result(3.0), SMALL.result(0.5)])
    found = merged(known, mine, [FAST.result(1.0)])
    assert found == [
        {"machine": other, "targets": [asdict(FAST.result(9.0))]},
        {"machine": mine, "targets": [asdict(FAST.result(1.0)), asdict(SMALL.result(0.5))]},
    ]
