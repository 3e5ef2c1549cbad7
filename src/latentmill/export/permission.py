"""Decides which entries may be exported."""

from pathlib import Path
from typing import Any

from latentmill.errors import InputError
from latentmill.export.card import exported_samples
from latentmill.export.refusal import Refused
from latentmill.trials.trained_model import failure, weights_digest

Json = dict[str, Any]


def evaluated(entry: str, metrics: Json, models: Path) -> Json:
    """The results of an entry's evaluation.

    Raises:
        Refused: the entry has no trained model, or its evaluation failed.
        InputError: it has neither metrics nor a reason why, or its metrics are of other weights.
    """
    if failed := failure(models / entry):
        raise Refused("no trial ended with a model", failed.reason, failed.advice, status="failed")
    if entry not in metrics:
        raise InputError(f"the metrics must hold every trained entry, but lack {entry!r}: run `dvc repro evaluate`")
    found: Json = metrics[entry]
    if "samples" not in found:
        why, advice = str(found.get("failed", "no reason is given")), str(found.get("advice", ""))
        raise Refused("its evaluation failed", why, advice, status="failed")
    if found.get("weights") != weights_digest(models / entry):
        rule = f"the metrics of {entry} must be of the weights in {models / entry}"
        raise InputError(f"{rule}, but are of others: run `dvc repro evaluate`")
    return found


def require_rule_2(entry: str, metrics: Json, allow_failing: list[str]) -> None:
    """Refuse an entry whose samples fail Rule 2, unless the user has allowed it by name.

    Raises:
        Refused: the samples of the prior that is exported fail Rule 2, and `allow_failing` lacks the entry.
    """
    rule_2 = exported_samples(metrics)["rule_2"]
    if rule_2["status"] == "fail" and entry not in allow_failing:
        advice = f"to export it nevertheless, add {entry} to export.allow_failing"
        raise Refused("its samples are too close to training images and fail Rule 2", rule_2["evidence"], advice)
