"""What the evaluation leaves on disk: numbers for DVC, tables for its plots, pictures, and what the page shows."""

from pathlib import Path
from typing import Any

from latentmill.evaluation.calibration import MARGIN, Calibration
from latentmill.evaluation.entry import Findings
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.neighbours import Neighbours
from latentmill.evaluation.plots import distances_csv, kl_csv
from latentmill.files import write_bytes, write_json, write_text
from latentmill.training.checkpoint import Failure

MODEL = ""  # stands for a route where findings are of the model itself

Found = dict[tuple[str, str], Findings]  # by entry, and route or `MODEL`


def write(
    folder: Path,
    entries: list[str],
    found: Found,
    judge: Judge,
    test: Neighbours,
    failed: dict[str, Failure] | None = None,
) -> None:
    """Everything, into an empty folder. The order of `found` does not matter.

    Of entries that `failed`, by the reason, there are no findings but that.
    """
    failed = failed or {}
    found = {key: found[key] for key in sorted(found, key=lambda key: entries.index(key[0])) if key[0] not in failed}
    judged = [entry for entry in entries if entry not in failed]
    (folder / "pictures").mkdir()
    by_entry = {entry: {route: each for (of, route), each in found.items() if of == entry} for entry in judged}
    for entry, findings in by_entry.items():
        _draw(folder / "pictures" / entry, findings)
    metrics = {entry: _metrics(by_entry[entry]) if entry in by_entry else _failed(failed[entry]) for entry in entries}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "galleries.json", {entry: _shown(findings) for entry, findings in by_entry.items()})
    write_json(folder / "calibration.json", calibration(judge))
    write_text(folder / "distances.csv", distances_csv(found, test.distances[:, 0]))
    write_text(folder / "kl.csv", kl_csv(found))


def line(entry: str, route: str, findings: Findings) -> str:
    """What was found, in one line."""
    if route == MODEL:
        return f"{entry}: judged as a model"
    said = ", ".join(f"rule {rule} {findings.metrics[f'rule_{rule}']['status']}" for rule in (1, 2))
    return f"{entry}, samples by {route}: {said}"


def calibration(judge: Judge) -> dict[str, Any]:
    """What each measure made of the controls, for the page."""
    return {
        "subset": judge.size,
        "margin": MARGIN,
        "spaces": {space.name: {"digest": space.digest, "features": space.dimensions} for space in judge.spaces[1]},
        "rules": {str(rule): _rule([each for each in judge.calibrations if each.rule == rule]) for rule in (1, 2)},
        "silent": judge.silent,
    }


def _rule(calibrations: list[Calibration]) -> dict[str, Any]:
    controls = {each.control: each.keeps for calibration in calibrations for each in calibration.seen}
    return {
        "controls": [{"name": name, "keeps": keeps} for name, keeps in controls.items()],
        "measures": [
            {
                "measure": each.measure,
                "space": each.space,
                "better": "higher" if each.higher_is_better else "lower",
                "tells": each.finds(),
                "excludes": each.told(),
                "seen": {seen.control: {"mean": seen.mean, "deviation": seen.deviation} for seen in each.seen},
            }
            for each in calibrations
        ],
    }


def _failed(failure: Failure) -> dict[str, str]:
    return {"failed": failure.reason} | ({"advice": failure.advice} if failure.advice else {})


def _metrics(findings: dict[str, Findings]) -> dict[str, Any]:
    samples = {route: each.metrics for route, each in findings.items() if route != MODEL}
    return findings[MODEL].metrics | {"samples": samples}


def _shown(findings: dict[str, Findings]) -> dict[str, Any]:
    return {route: {"distances": each.shown} for route, each in findings.items() if route != MODEL}


def _draw(folder: Path, findings: dict[str, Findings]) -> None:
    folder.mkdir()
    for each in findings.values():
        for name, picture in each.pictures.items():
            write_bytes(folder / name, picture)
