"""What each measure's values mean on this data: which controls it told, and from where it says that a rule is broken.

A measure that told no control is blind here and has no say, however well it is known.
"""

from dataclasses import dataclass

from latentmill.report.inputs import Inputs, Json
from latentmill.report.numbers import MISSING, plain, plus_minus
from latentmill.report.verdicts import RULES


@dataclass(frozen=True)
class Seen:
    """A measure on one set of images."""

    name: str
    kind: str  # "keeps" or "breaks" for a control, "model"
    symbol: str  # a letter for a control, its number on the ladder for a model
    value: float | None  # None: it was not measured
    error: float  # deviation between draws of a control, standard error for a model
    threshold: float | None = None  # where a control that breaks the rule is told from all that keep it

    @property
    def text(self) -> str:
        return MISSING if self.value is None else plus_minus(self.value, self.error)


@dataclass(frozen=True)
class Measure:
    """One of a rule's measures, on all controls and models."""

    name: str
    space: str
    lower_is_better: bool
    seen: list[Seen]

    @property
    def title(self) -> str:
        return f"{self.name} in {self.space}"

    @property
    def threshold(self) -> float | None:
        """The value from which it says that the rule is broken; None where it has no say."""
        found = [each.threshold for each in self.seen if each.threshold is not None]
        return (min if self.lower_is_better else max)(found) if found else None

    @property
    def blind(self) -> bool:
        return self.threshold is None

    @property
    def limit(self) -> str:
        """The threshold in words."""
        if self.threshold is None:
            return MISSING
        return f"{'≥' if self.lower_is_better else '≤'}\N{NO-BREAK SPACE}{plain(self.threshold)}"

    @property
    def breaking(self) -> list[Seen]:
        """The controls that it should tell."""
        return [each for each in self.seen if each.kind == "breaks"]


@dataclass(frozen=True)
class Rule:
    """All that is known of the measures of one rule."""

    number: str
    title: str
    controls: list[Seen]  # without values: what the symbols stand for
    models: list[Seen]  # likewise
    measures: list[Measure]  # those that have a say first

    @property
    def breaking(self) -> list[Seen]:
        return [each for each in self.controls if each.kind == "breaks"]


def rules(inputs: Inputs) -> list[Rule]:
    """The rules that were calibrated, with where each entry's exported samples stand."""
    return [_rule(number, found, inputs) for number, found in inputs.calibration.get("rules", {}).items()]


def directions(calibration: Json) -> dict[tuple[str, str], str]:
    """(space, measure) -> "higher" or "lower", whichever is better."""
    found = [measure for rule in calibration.get("rules", {}).values() for measure in rule["measures"]]
    return {(each["space"], each["measure"]): each["better"] for each in found}


def having_say(calibration: Json) -> set[tuple[str, str]]:
    """(space, measure) of those that told some control."""
    found = [measure for rule in calibration.get("rules", {}).values() for measure in rule["measures"]]
    return {(each["space"], each["measure"]) for each in found if each["tells"]}


def _rule(number: str, found: Json, inputs: Inputs) -> Rule:
    controls = [
        Seen(each["name"], "keeps" if each["keeps"] else "breaks", chr(ord("A") + index), None, 0)
        for index, each in enumerate(found["controls"])
    ]
    models = [Seen(entry.name, "model", str(entry.rank), None, 0) for entry in inputs.entries]
    measures = [_measure(each, controls, inputs) for each in found["measures"]]
    return Rule(number, RULES.get(number, ""), controls, models, sorted(measures, key=lambda each: each.blind))


def _measure(found: Json, controls: list[Seen], inputs: Inputs) -> Measure:
    seen = [_control(each, found) for each in controls]
    for entry in inputs.entries:
        samples = entry.metrics["samples"][entry.metrics["exported_prior"]]
        value = samples.get("measures", {}).get(found["space"], {}).get(found["measure"], {})
        seen.append(Seen(entry.name, "model", str(entry.rank), value.get("value"), value.get("standard_error", 0)))
    return Measure(found["measure"], found["space"], found["better"] == "lower", seen)


def _control(control: Seen, found: Json) -> Seen:
    value = found["seen"].get(control.name, {})
    threshold = found["tells"].get(control.name)
    return Seen(control.name, control.kind, control.symbol, value.get("mean"), value.get("deviation", 0), threshold)
