"""The verdicts on all models, with which the page begins."""

from dataclasses import dataclass

from latentmill.export.outcome import ExportOutcome
from latentmill.report.inputs import Entry, Inputs, Json

RULES = {"1": "samples look drawn from the data", "2": "samples are suitably different from the training data"}
ICONS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}  # so that an outcome is not shown by its colour alone
RANKS = {"pass": 0, "inconclusive": 1, "fail": 2}
LIMITS = {  # what limits samples by Rule 1, in a sentence
    "decoder": "The decoder is at fault: no prior can pass with it.",
    "prior": "The prior is at fault: the decoder passes with codes of images.",
}
UNJUDGED = {"status": "inconclusive", "evidence": "the evaluation has no verdict", "samples": 0}


@dataclass(frozen=True)
class ShownVerdict:
    """On a model's samples under one prior, by one rule."""

    rule: str
    status: str
    evidence: str
    samples: int
    damage: str = ""  # to real images that scores the same; empty where it is not known

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
    return [_shown(rule, samples.get(f"rule_{rule}", UNJUDGED)) for rule in RULES]


def ceiling(metrics: Json) -> ShownVerdict | None:
    """Rule 1 on an entry's reconstructions of validation images; None if it has none."""
    return _shown("1", metrics["reconstructions"]["rule_1"]) if "reconstructions" in metrics else None


def limited_by(metrics: Json, samples: Json) -> str:
    """What keeps the samples under one prior from passing Rule 1: decoder or prior, neither if they pass.

    It is inconclusive where a verdict is, and empty for a model without codes.
    """
    found, drawn = ceiling(metrics), verdicts(samples)[0].status
    if found is None:
        return ""
    if drawn == "pass":
        return "neither"
    if found.status == "fail":
        return "decoder"
    return "prior" if (found.status, drawn) == ("pass", "fail") else "inconclusive"


def _shown(rule: str, found: Json) -> ShownVerdict:
    return ShownVerdict(rule, found["status"], found["evidence"], found["samples"], found.get("equivalent_damage", ""))


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
    return f"{len(passing)} of {len(found)} models {verb} both rules: {listed(passing)}."


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


def listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
