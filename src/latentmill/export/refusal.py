"""What is not handed out, and why: an output like an export, so that other entries, champion and report are made.

    exports/<entry>/refused.json
    {"entry": "vae", "status": "refused", "reason": …, "evidence": …, "advice": …, "rules": {"1": "pass", "2": "fail"}}

The status is `failed` for an entry that has no trained model, or could not be evaluated.
"""

import json
from pathlib import Path
from typing import Any, Literal

from latentmill.errors import InputError
from latentmill.files import write_json
from latentmill.runtime.folder import REFUSED

FAILED = "failed.json"  # in models/<entry>, in place of a trained model
OUTCOMES = {"holds": "pass", "broken": "fail", "cannot tell": "inconclusive"}  # of a rule, by its status in metrics

Json = dict[str, Any]


class Refused(InputError):
    """An export must not, or cannot, be made. The reason is a clause: "its samples are copies of training images"."""

    def __init__(
        self, reason: str, evidence: str = "", advice: str = "", status: Literal["refused", "failed"] = "refused"
    ) -> None:
        super().__init__("; ".join(filter(None, (": ".join(filter(None, (reason, evidence))), advice))))
        self.reason, self.evidence, self.advice, self.status = reason, evidence, advice, status

    def write(self, folder: Path, entry: str, metrics: Json | None = None) -> None:
        """Write refused.json into `folder`; `metrics` are those of the entry, where it was evaluated."""
        told = {name: getattr(self, name) for name in ("status", "reason", "evidence", "advice")}
        write_json(folder / REFUSED, {"entry": entry, **told, "rules": outcomes(metrics or {})})


def outcomes(metrics: Json) -> dict[str, str]:
    """Of each rule, for the samples of the exported prior: pass, fail or inconclusive; empty without samples."""
    samples = metrics.get("samples", {}).get(metrics.get("exported_prior"), {})
    statuses = {rule: samples.get(f"rule_{rule}", {}).get("status") for rule in ("1", "2")}
    return {rule: OUTCOMES.get(status, status) for rule, status in statuses.items() if status}


def evaluated(entry: str, metrics: Json, models: Path) -> Json:
    """What the evaluation found of an entry.

    Raises:
        Refused: the entry has no trained model, or its evaluation failed.
        InputError: it has neither metrics nor a reason why.
    """
    if (models / entry / FAILED).exists():
        raise Refused("no trial ended with a model", failure(models / entry), status="failed")
    if entry not in metrics:
        raise InputError(f"the metrics must hold every trained entry, but lack {entry!r}: run the stage evaluate")
    found: Json = metrics[entry]
    if "samples" not in found:
        raise Refused("its evaluation failed", str(found.get("failed", "no reason is given")), status="failed")
    return found


def failure(model: Path) -> str:
    """Why the folder models/<entry> holds no model.

    Raises:
        InputError: its failed.json is damaged.
    """
    path = model / FAILED
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} must be JSON with a reason, but: {error!r}; run the stage train") from None
