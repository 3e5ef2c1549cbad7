"""An export that is refused, and why. A refusal is an output too, so that the stages of other entries go on.

    exports/<entry>/refused.json
    {"entry": "vae", "status": "refused", "reason": …, "evidence": …, "advice": …, "rules": {"1": "pass", "2": "fail"},
     "inputs": …}

The status is `failed` for an entry that has no trained model, or could not be evaluated or exported for an error.
"""

from pathlib import Path
from typing import Any, Literal

from latentmill.errors import InputError
from latentmill.files import write_json
from latentmill.runtime.folder import REFUSED
from latentmill.runtime.json_file import at

Json = dict[str, Any]


class Refused(InputError):
    """An export must not, or cannot, be made. The reason is a clause, such as "no trial ended with a model"."""

    def __init__(
        self, reason: str, evidence: str = "", advice: str = "", status: Literal["refused", "failed"] = "refused"
    ) -> None:
        super().__init__("; ".join(filter(None, (": ".join(filter(None, (reason, evidence))), advice))))
        self.reason, self.evidence, self.advice, self.status = reason, evidence, advice, status

    def write(self, folder: Path, entry: str, metrics: Json | None = None, inputs: str = "") -> None:
        """Write refused.json into `folder`; `metrics` are those of the entry, where it was evaluated.

        `inputs` is the digest of everything that led to the refusal; empty if the export must be tried again.
        """
        why = {name: getattr(self, name) for name in ("status", "reason", "evidence", "advice")}
        write_json(folder / REFUSED, {"entry": entry, **why, "rules": outcomes(metrics or {}), "inputs": inputs})


def outcomes(metrics: Any) -> dict[str, str]:
    """The outcome of each rule for the samples of the exported prior; empty without samples."""
    samples = at(metrics, "samples", at(metrics, "exported_prior"))
    statuses = {rule: at(samples, f"rule_{rule}", "status") for rule in ("1", "2")}
    return {rule: status for rule, status in statuses.items() if isinstance(status, str)}
