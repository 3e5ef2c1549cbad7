"""The evaluation's output on disk: numbers for DVC, tables for its plots, pictures, and calibrations for the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentmill.evaluation.calibration_record import calibration_record
from latentmill.evaluation.entry import EvaluationResult
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.neighbours import Neighbours
from latentmill.evaluation.plots import distances_csv, kl_csv
from latentmill.evaluation.selection import exported_prior
from latentmill.files import write_bytes, write_json, write_text
from latentmill.trials.trained_model import Failure

ENTRIES = "entries"  # the folder of each entry's numbers
MODEL = ""  # stands for a prior where results are of the model itself
RECONSTRUCTIONS = "reconstructions of validation images"  # the same, where they are of these

Results = dict[tuple[str, str], EvaluationResult]  # by entry, and prior, `MODEL` or `RECONSTRUCTIONS`


def write(
    folder: Path,
    entries: Mapping[str, str],
    results: Results,
    judge: Judge,
    test: Neighbours,
    failed: dict[str, Failure] | None = None,
    weights: Mapping[str, str] | None = None,
) -> None:
    """Write everything into an empty folder. The order of `results` does not matter.

    `entries` has the prior that each is to be exported with. One that `failed` has only the reason in metrics.json.
    `weights` has the digest of those that were evaluated, by entry, without which they can't be exported.
    """
    failed, order = failed or {}, list(entries)
    kept = sorted((key for key in results if key[0] not in failed), key=lambda key: (order.index(key[0]), key[1]))
    results = {key: results[key] for key in kept}
    by_entry: dict[str, dict[str, EvaluationResult]] = {entry: {} for entry in entries if entry not in failed}
    for (entry, prior), each in results.items():
        by_entry[entry][prior] = each
    (folder / "pictures").mkdir()
    for entry, found in by_entry.items():
        _draw(folder / "pictures" / entry, found)
    metrics = {
        entry: _metrics(by_entry[entry], wanted) if entry in by_entry else _failed(failed[entry])
        for entry, wanted in entries.items()
    }
    for entry, digest in (weights or {}).items():
        if entry in by_entry:
            metrics[entry]["weights"] = digest
    write_json(folder / "metrics.json", metrics)
    (folder / ENTRIES).mkdir()
    for entry, numbers in metrics.items():  # so that an export depends on those of its own entry
        write_json(folder / ENTRIES / f"{entry}.json", numbers)
    write_json(folder / "galleries.json", {entry: _shown(found) for entry, found in by_entry.items()})
    write_json(folder / "calibration.json", calibration_record(judge))
    write_text(folder / "distances.csv", distances_csv(results, test.distances[:, 0]))
    write_text(folder / "kl.csv", kl_csv(results))


def line(entry: str, prior: str, result: EvaluationResult) -> str:
    """A result in one line."""
    if prior == MODEL:
        return f"{entry}: the model is evaluated"
    if prior == RECONSTRUCTIONS:
        return f"{entry}, {RECONSTRUCTIONS}: rule 1 {result.metrics['reconstructions']['rule_1']['status']}"
    outcomes = ", ".join(f"rule {rule} {result.metrics[f'rule_{rule}']['status']}" for rule in (1, 2))
    return f"{entry}, samples under {prior}: {outcomes}"


def _failed(failure: Failure) -> dict[str, str]:
    return {"failed": failure.reason} | ({"advice": failure.advice} if failure.advice else {})


def _metrics(results: dict[str, EvaluationResult], wanted: str) -> dict[str, Any]:
    samples = {prior: each.metrics for prior, each in _prior_results(results).items()}
    ceiling = results[RECONSTRUCTIONS].metrics if RECONSTRUCTIONS in results else {}
    return {"exported_prior": exported_prior(wanted, samples)} | results[MODEL].metrics | ceiling | {"samples": samples}


def _shown(results: dict[str, EvaluationResult]) -> dict[str, Any]:
    return {prior: {"distances": each.shown} for prior, each in _prior_results(results).items()}


def _prior_results(results: dict[str, EvaluationResult]) -> dict[str, EvaluationResult]:
    return {prior: each for prior, each in results.items() if prior not in (MODEL, RECONSTRUCTIONS)}


def _draw(folder: Path, results: dict[str, EvaluationResult]) -> None:
    folder.mkdir()
    for each in results.values():
        for name, picture in each.pictures.items():
            write_bytes(folder / name, picture)
