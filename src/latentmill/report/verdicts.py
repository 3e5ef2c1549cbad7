"""The verdicts on all models, with which the page begins."""

from dataclasses import dataclass

from latentmill.export.outcome import ExportOutcome
from latentmill.report.inputs import Entry, Inputs, Json

RULES = {"1": "samples look drawn from the data", "2": "samples are suitably different from the training data"}
ICONS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}  # so that an outcome is not shown by its colour alone
UNJUDGED = {"status": "inconclusive", "evidence": "the evaluation has no verdict", "samples": 0}


@dataclass(frozen=True)
class ShownVerdict:
    """On a model's samples under one prior, by one rule."""

    rule: str
    status: str
    evidence: str
    samples: int

    @property
    def icon(self) -> str:
        return ICONS.get(self.status, ICONS["inconclusive"])

    @property
    def reasons(self) -> list[str]:
        """The evidence in parts, one for each metric or control."""
        return self.evidence.split("; ")

    @property
    def style(self) -> str:
        """The CSS class of its colour."""
        return {"pass": "good", "fail": "bad"}.get(self.status, "unsure")


def verdicts(samples: Json) -> list[ShownVerdict]:
    """On the samples under one prior, in the order of the rules."""
    found = [(rule, samples.get(f"rule_{rule}", UNJUDGED)) for rule in RULES]
    return [ShownVerdict(rule, each["status"], each["evidence"], each["samples"]) for rule, each in found]


def headline(entries: list[Entry]) -> str:
    """The answer in one sentence, about the exported prior of each entry."""
    found = {entry.name: verdicts(entry.metrics["samples"][entry.metrics["exported_prior"]]) for entry in entries}
    if not found:
        return "No model could be judged."
    passing = [name for name, each in found.items() if all(verdict.status == "pass" for verdict in each)]
    if not passing:
        return (
            f"None of the {len(found)} models passes both rules." if len(found) > 1 else "No model passes both rules."
        )
    verb = "passes" if len(passing) == 1 else "pass"
    return f"{len(passing)} of {len(found)} models {verb} both rules: {_listed(passing)}."


def setbacks(inputs: Inputs) -> list[ExportOutcome]:
    """The entries that were not exported, in the order of the ladder."""
    outcomes = {entry.rank: entry.outcome for entry in inputs.entries} | inputs.failed
    return [outcomes[rank] for rank in sorted(outcomes) if not outcomes[rank].exported]


def shortfall(inputs: Inputs) -> str:
    """The number of entries that were not exported, in a sentence."""
    missing, entries = setbacks(inputs), len(inputs.entries) + len(inputs.failed)
    refused = sum(each.status == "refused" for each in missing)
    counts = {"refused": refused, "failed": len(missing) - refused}
    why = " and ".join(f"{number} {word}" for word, number in counts.items() if number)
    exported = f"{entries - len(missing)} of {entries} models exported"
    champion = "" if inputs.champion.exported else " There is no champion."
    return f"{exported}{f', {why}' if why else ''}.{champion}"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
