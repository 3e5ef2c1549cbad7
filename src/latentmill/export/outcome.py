"""The outcome of each entry's export, read from disk: exported, refused or failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentmill.config import RESERVED
from latentmill.errors import InputError
from latentmill.export.refusal import outcomes
from latentmill.runtime.folder import CARD, REFUSED
from latentmill.runtime.format_1 import upgraded
from latentmill.runtime.json_file import read_object
from latentmill.runtime.text import one_line

Json = dict[str, Any]


@dataclass(frozen=True)
class ExportOutcome:
    """Of one folder in `exports`."""

    name: str  # the entry's, or `champion`
    status: str  # exported, refused or failed
    reason: str  # with the evidence; empty for an export
    advice: str  # what to do about a refusal; empty where nothing can be done
    rules: dict[str, str]  # rule -> pass, fail or inconclusive
    card: Json  # empty without an export

    @property
    def exported(self) -> bool:
        return self.status == "exported"

    def __str__(self) -> str:
        if self.card.get("chosen"):  # the champion
            return one_line(f"{self.name}: {self.card.get('entry')}, {self.card['chosen']}")
        rules = ", ".join(f"rule {rule} {outcome}" for rule, outcome in self.rules.items())
        what = f"{self.status}: {self.reason}" if self.reason else self.status
        advice = f"; {self.advice}" if self.advice else ""
        return one_line(f"{self.name}: {what}{f' ({rules})' if rules else ''}{advice}")


def read_outcome(exports: Path, name: str) -> ExportOutcome:
    """The outcome in the folder `name`.

    Raises:
        InputError: it holds neither an export nor a refusal, or what it holds is damaged.
    """
    folder = exports / name
    if (folder / REFUSED).exists():
        found = _read(folder / REFUSED, name)
        reason = ": ".join(str(found[key]) for key in ("reason", "evidence") if found.get(key))
        status = "failed" if found.get("status") == "failed" else "refused"
        rules = found.get("rules")
        advice = str(found.get("advice", ""))
        return ExportOutcome(name, status, reason, advice, rules if isinstance(rules, dict) else {}, {})
    card = upgraded(_read(folder / CARD, name))
    return ExportOutcome(name, "exported", "", "", outcomes(card.get("metrics")), card)


def check(entries: list[str], exports: Path) -> bool:
    """Print a line for each entry and one for the champion; true if an entry and the champion were exported.

    Raises:
        InputError: as `read_outcome`, or nothing has run.
    """
    names = (*entries, RESERVED)
    if not any((exports / name).exists() for name in names):
        raise InputError(f"{exports} must hold a folder for each entry, but holds none: run `dvc repro`")
    found = [read_outcome(exports, name) for name in names]
    for each in found:
        print(each)
    return any(each.exported for each in found[:-1]) and found[-1].exported


def _read(path: Path, name: str) -> Json:
    return read_object(path, "champion" if name == RESERVED else f"publish@{name}")
