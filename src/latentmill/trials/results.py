"""The results of a sweep: the winner of each entry, and tables of all trials."""

import csv
import io
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from latentmill.errors import InputError
from latentmill.trials.record import Record
from latentmill.trials.study import Planned
from latentmill.trials.trained_model import Failure

SUMMARY = ["status", "winner", "criterion", "mean", "standard_error", "best_epoch", "epochs"]
SUMMARY += ["train_loss", "val_loss", "seconds", "error"]
TRY_AGAIN = "to try again, run `dvc repro -f train`"


@dataclass(frozen=True)
class Outcome:
    """A planned trial and how it ended."""

    planned: Planned
    record: Record

    @property
    def finished(self) -> bool:
        return self.record["status"] == "finished"

    @property
    def rank(self) -> tuple[float, str]:
        """Lower is better; the fingerprint breaks ties, so that the order of finishing never does."""
        return self.record["criterion"], self.planned.fingerprint


@dataclass(frozen=True)
class Ranked:
    """A configuration with a finished trial, and its mean over seeds."""

    trials: list[Outcome]  # one per seed, the finished ones first, by rank
    mean: float  # of the criterion, in nats per image
    standard_error: float | None  # of that mean; None for a single seed

    @property
    def best(self) -> Outcome:
        return self.trials[0]

    @property
    def rank(self) -> tuple[int, float, str]:
        """Those with an unfinished trial come last: a mean without its failures would flatter them."""
        unfinished = sum(not outcome.finished for outcome in self.trials)
        return unfinished, self.mean, min(outcome.planned.fingerprint for outcome in self.trials)


def outcomes(planned: Iterable[Planned], records: dict[str, Record]) -> list[Outcome]:
    """How every planned trial ended; one without a record is unfinished."""
    return [Outcome(item, records.get(item.fingerprint, {"status": "unfinished"})) for item in planned]


def ranking(tried: Iterable[Outcome]) -> dict[str, list[Ranked]]:
    """The configurations that have a finished trial, by study, the best first."""
    found = {}
    for study, trials in by_study(tried).items():
        groups: dict[str, list[Outcome]] = {}
        for outcome in trials:
            groups.setdefault(outcome.planned.configuration, []).append(outcome)
        ranked = [_ranked(group) for group in groups.values() if any(outcome.finished for outcome in group)]
        if ranked:
            found[study] = sorted(ranked, key=lambda each: each.rank)
    return found


def _ranked(trials: list[Outcome]) -> Ranked:
    finished = sorted((outcome for outcome in trials if outcome.finished), key=lambda outcome: outcome.rank)
    criteria = [outcome.record["criterion"] for outcome in finished]
    spread = statistics.stdev(criteria) / len(criteria) ** 0.5 if len(criteria) > 1 else None
    return Ranked([*finished, *(each for each in trials if not each.finished)], statistics.fmean(criteria), spread)


def without_winner(tried: Iterable[Outcome], ranked: dict[str, list[Ranked]]) -> dict[str, list[Outcome]]:
    """The trials of the studies that have no winner, by study."""
    return {study: trials for study, trials in by_study(tried).items() if study not in ranked}


def by_study(tried: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in tried:
        found.setdefault(outcome.planned.study, []).append(outcome)
    return found


def study_failure(trials: list[Outcome]) -> Failure:
    """Why no trial of a study has finished, each error once."""
    errors = dict.fromkeys(str(outcome.record.get("error", outcome.record["status"])) for outcome in trials)
    return Failure("; ".join(errors), TRY_AGAIN if any(map(_may_succeed_later, trials)) else "")


def _may_succeed_later(outcome: Outcome) -> bool:
    """Whether the same trial may finish with more memory or time."""
    return outcome.record["status"] in ("out of memory", "unfinished") or "deaths" in outcome.record


def summary(outcome: Outcome) -> Record:
    """How a trial ended."""
    ending = {key: outcome.record[key] for key in ("status", "error") if key in outcome.record}
    return {"fingerprint": outcome.planned.fingerprint, "label": outcome.planned.label} | ending


def require_a_model(failed: dict[str, Failure], entries: Iterable[str]) -> None:
    """Raises InputError where all entries have failed; `failed` has the reasons."""
    if set(entries) <= failed.keys():
        reasons = "; ".join(f"ladder.{entry}: {each.reason}" for entry, each in failed.items())
        raise InputError(f"some entry must have a trial that finishes, but none has: {reasons}")


def trials_csv(tried: list[Outcome], ranked: dict[str, list[Ranked]], winners: Iterable[Outcome]) -> str:
    """One row per trial: entry, fingerprint, config, seed, summary of its curve, seconds, error."""
    ranks = {id(outcome): each for entry in ranked.values() for each in entry for outcome in each.trials}
    won = {id(outcome) for outcome in winners}
    rows = [_row(outcome, ranks.get(id(outcome)), id(outcome) in won) for outcome in tried]
    config = sorted({key for row in rows for key in row if "." in key})
    return csv_text(["entry", "prior", "fingerprint", "model", "seed", *SUMMARY, *config], rows)


def curves_csv(tried: Iterable[Outcome]) -> str:
    """One row per epoch of each trial, for plots of the learning curves."""
    rows = [
        {"entry": outcome.planned.study, "trial": outcome.planned.fingerprint, "epoch": epoch}
        | {key: row[key] for key in ("train_loss", "val_loss")}
        for outcome in tried
        if outcome.finished
        for epoch, row in enumerate(outcome.record["history"], start=1)
    ]
    return csv_text(["entry", "trial", "epoch", "train_loss", "val_loss"], rows)


def _row(outcome: Outcome, ranked: Ranked | None, winner: bool) -> dict[str, Any]:
    trial, record = outcome.planned.trial, outcome.record
    row = {
        "entry": outcome.planned.entry,
        "fingerprint": outcome.planned.fingerprint,
        "prior": outcome.planned.prior or "",
        "model": trial.model,
        "seed": trial.seed,
        "status": record["status"],
        "winner": "yes" if winner else "",
        "error": record.get("error", ""),
    }
    row |= {f"config.{key}": value for key, value in trial.config.items()}
    row |= {f"trial.{key}": value for key, value in (trial.training or {}).items()}
    if ranked:
        row |= {"mean": ranked.mean, "standard_error": "" if ranked.standard_error is None else ranked.standard_error}
    if outcome.finished:
        history = record["history"]
        best = history[record["best_epoch"] - 1] if history else {}
        row |= {key: record[key] for key in ("criterion", "best_epoch", "seconds")} | {"epochs": len(history)}
        row |= {key: best.get(key, "") for key in ("train_loss", "val_loss")}
    return row


def csv_text(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Comma-separated values with a header; missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
