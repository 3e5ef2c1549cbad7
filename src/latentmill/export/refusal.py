"""What is not handed out, and why: an output like an export, so that other entries, champion and report are made.

    exports/<entry>/refused.json
    {"entry": "vae", "status": "refused", "reason": …, "evidence": …, "advice": …, "rules": {"1": "pass", "2": "fail"},
     "inputs": …}

The status is `failed` for an entry that has no trained model, or could not be evaluated.
"""

from pathlib import Path
from typing import Any, Literal

from latentmill.errors import InputError
from latentmill.files import write_json
from latentmill.runtime.folder import REFUSED

OUTCOMES = {"holds": "pass", "broken": "fail", "cannot tell": "inconclusive"}  # of a rule, by its status in metrics

Json = dict[str, Any]


class Refused(InputError):
    """An export must not, or cannot, be made. The reason is a clause: "its samples are copies of training images"."""

    def __init__(
        self, reason: str, evidence: str = "", advice: str = "", status: Literal["refused", "failed"] = "refused"
    ) -> None:
        super().__init__("; ".join(filter(None, (": ".join(filter(None, (reason, evidence))), advice))))
        self.reason, self.evidence, self.advice, self.status = reason, evidence, advice, status

    def write(self, folder: Path, entry: str, metrics: Json | None = None, inputs: str = "") -> None:
        """Write refused.json into `folder`; `metrics` are those of the entry, where it was evaluated.

        `inputs` is the digest of all that it was refused for, where it need not be tried again.
        """
        told = {name: getattr(self, name) for name in ("status", "reason", "evidence", "advice")}
        write_json(folder / REFUSED, {"entry": entry, **told, "rules": outcomes(metrics or {}), "inputs": inputs})


def outcomes(metrics: Json) -> dict[str, str]:
    """Of each rule, for the samples of the exported prior: pass, fail or inconclusive; empty without samples."""
    samples = metrics.get("samples", {}).get(metrics.get("exported_prior"), {})
    statuses = {rule: samples.get(f"rule_{rule}", {}).get("status") for rule in ("1", "2")}
    return {rule: OUTCOMES.get(status, status) for rule, status in statuses.items() if status}
