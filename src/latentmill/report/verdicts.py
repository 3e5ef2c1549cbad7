"""Which models keep the two rules: what stands first on the page."""

from dataclasses import dataclass

from latentmill.report.inputs import Entry, Json

RULES = {"1": "samples look drawn from the data", "2": "samples are suitably different from the training data"}
ICONS = {"holds": "✓", "broken": "✗", "cannot tell": "?"}  # so that no verdict is told by its colour alone
UNJUDGED = {"status": "cannot tell", "evidence": "no verdict was given", "samples": 0}


@dataclass(frozen=True)
class Verdict:
    """On one way to sample from a model, under one rule."""

    rule: str
    status: str
    evidence: str
    samples: int

    @property
    def icon(self) -> str:
        return ICONS.get(self.status, ICONS["cannot tell"])

    @property
    def reasons(self) -> list[str]:
        """What each measure adds to the evidence."""
        return self.evidence.split("; ")

    @property
    def style(self) -> str:
        """The class of its colour."""
        return {"holds": "good", "broken": "bad"}.get(self.status, "unsure")


def verdicts(found: Json) -> list[Verdict]:
    """On the samples of one route, in the order of the rules."""
    told = [(rule, found.get(f"rule_{rule}", UNJUDGED)) for rule in RULES]
    return [Verdict(rule, each["status"], each["evidence"], each["samples"]) for rule, each in told]


def headline(entries: list[Entry]) -> str:
    """The answer in one sentence, about what is exported of each entry."""
    found = {entry.name: verdicts(entry.metrics["samples"][entry.metrics["exported_prior"]]) for entry in entries}
    keep = [name for name, each in found.items() if all(verdict.status == "holds" for verdict in each)]
    if not keep:
        whose = f"None of the {len(found)} models" if len(found) > 1 else "No model"
        return f"{whose} is shown to keep both rules."
    return f"{len(keep)} of {len(found)} models keep{'s' if len(keep) == 1 else ''} both rules: {_listed(keep)}."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
