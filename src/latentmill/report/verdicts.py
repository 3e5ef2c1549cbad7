"""Which models keep the two rules: what stands first on the page."""

from dataclasses import dataclass

from latentmill.export.outcome import Outcome
from latentmill.report.inputs import Entry, Inputs, Json

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
    if not found:
        return "No model could be judged."
    keep = [name for name, each in found.items() if all(verdict.status == "holds" for verdict in each)]
    if not keep:
        whose = f"None of the {len(found)} models" if len(found) > 1 else "No model"
        return f"{whose} is shown to keep both rules."
    return f"{len(keep)} of {len(found)} models keep{'s' if len(keep) == 1 else ''} both rules: {_listed(keep)}."


def setbacks(inputs: Inputs) -> list[Outcome]:
    """The entries that were not exported, in the order of the ladder."""
    outcomes = {entry.rank: entry.outcome for entry in inputs.entries} | inputs.failed
    return [outcomes[rank] for rank in sorted(outcomes) if not outcomes[rank].exported]


def shortfall(inputs: Inputs) -> str:
    """How many those are, in a sentence."""
    short, entries = setbacks(inputs), len(inputs.entries) + len(inputs.failed)
    refused = sum(each.status == "refused" for each in short)
    counts = {"refused": refused, "failed": len(short) - refused}
    told = " and ".join(f"{number} {word}" for word, number in counts.items() if number)
    exported = f"{entries - len(short)} of {entries} models exported"
    champion = "" if inputs.champion.exported else " There is no champion."
    return f"{exported}{f', {told}' if told else ''}.{champion}"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
