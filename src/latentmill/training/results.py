"""What a sweep came to: the winner of each entry, and tables of all trials."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from latentmill.errors import InputError
from latentmill.training.plan import Planned
from latentmill.training.trials import TrialStore

SUMMARY = ("status", "winner", "criterion", "best_epoch", "epochs", "train_loss", "val_loss", "seconds", "error")


@dataclass(frozen=True)
class Outcome:
    """A planned trial with its record in the store, or the error it ended with."""

    planned: Planned
    fingerprint: str
    record: dict[str, Any] | None
    error: str | None

    @property
    def rank(self) -> tuple[float, str]:
        """Lower is better; the fingerprint breaks ties, so that the order of finishing never does."""
        assert self.record is not None
        return self.record["criterion"], self.fingerprint


def outcome_of(planned: Planned, fingerprint: str, store: TrialStore, errors: dict[str, str]) -> Outcome:
    """What became of a planned trial; one that left neither a record nor an error was lost, which is an error too."""
    record = store.find(fingerprint)
    return Outcome(planned, fingerprint, record, None if record else errors.get(fingerprint, "ended without a result"))


def winners(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The best finished trial of each entry that has one."""
    finished: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.record:
            finished.setdefault(outcome.planned.entry, []).append(outcome)
    return {entry: min(tried, key=lambda outcome: outcome.rank) for entry, tried in finished.items()}


def require_winners(outcomes: Iterable[Outcome], best: dict[str, Outcome]) -> None:
    """Every entry has a winner.

    Raises:
        InputError: an entry has none; the message names its errors.
    """
    errors = {outcome.error: outcome for outcome in outcomes if outcome.planned.entry not in best}
    if errors:
        told = "; ".join(f"ladder.{outcome.planned.entry}: {error}" for error, outcome in errors.items())
        raise InputError(f"every entry must have a trial that finishes, but these have none: {told}")


def trials_csv(outcomes: list[Outcome], best: dict[str, Outcome]) -> str:
    """One row a trial: entry, fingerprint, config, seed, summary of its curve, seconds, error."""
    rows = [_row(outcome, best.get(outcome.planned.entry) is outcome) for outcome in outcomes]
    config = sorted({key for row in rows for key in row if "." in key})
    return _csv(["entry", "fingerprint", "variant", "seed", *SUMMARY, *config], rows)


def curves_csv(outcomes: Iterable[Outcome]) -> str:
    """One row an epoch of each trial, for plots of the learning curves."""
    rows = [
        {"entry": outcome.planned.entry, "trial": outcome.fingerprint, "epoch": epoch}
        | {key: row[key] for key in ("train_loss", "val_loss")}
        for outcome in outcomes
        if outcome.record
        for epoch, row in enumerate(outcome.record["history"], start=1)
    ]
    return _csv(["entry", "trial", "epoch", "train_loss", "val_loss"], rows)


def _row(outcome: Outcome, winner: bool) -> dict[str, Any]:
    trial, record = outcome.planned.trial, outcome.record
    row = {
        "entry": outcome.planned.entry,
        "fingerprint": outcome.fingerprint,
        "variant": trial.variant,
        "seed": trial.seed,
        "status": "finished" if record else "failed",
        "winner": "yes" if winner else "",
        "error": outcome.error or "",
    }
    row |= {f"model.{key}": value for key, value in trial.model.items()}
    row |= {f"training.{key}": value for key, value in (trial.training or {}).items()}
    if record:
        history = record["history"]
        best = history[record["best_epoch"] - 1] if history else {}
        row |= {key: record[key] for key in ("criterion", "best_epoch", "seconds")} | {"epochs": len(history)}
        row |= {key: best.get(key, "") for key in ("train_loss", "val_loss")}
    return row


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
