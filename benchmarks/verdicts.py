"""What verdicts on a generator must be, how often they were, and a journal of repetitions, which a run continues."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.target import Result, Target
from latentmill.trials.code import digest, imported_files

Verdicts = dict[tuple[str, int], tuple[str, str]]  # by generator and rule: status and evidence
Row = tuple[str, int, str, str]  # of them, as JSON


@dataclass(frozen=True)
class Requirement:
    """How often the verdict on a generator may, or must, have this outcome, in percent."""

    words: str
    generator: str
    rules: tuple[int, ...]  # all of them must have the outcome
    status: str
    at_most: float = float("inf")
    at_least: float = float("-inf")

    def is_met(self, verdicts: Verdicts) -> bool:
        return all(verdicts[self.generator, rule][0] == self.status for rule in self.rules)

    def result(self, source: str, verdicts: list[Verdicts]) -> Result:
        """The share of the repetitions on images of `source` in which the verdict had this outcome."""
        met, count = sum(map(self.is_met, verdicts)), len(verdicts)
        target = Target(f"{source}, {count} times: {self.words}", "%", self.at_least, self.at_most)
        low, high = wilson(met, count)
        return target.result(100 * met / count, f"{met} of {count}, 95 % interval {low:.1f} to {high:.1f} %")

    def statuses(self, verdicts: list[Verdicts]) -> dict[str, int]:
        """How often the rules had each outcome."""
        return dict(Counter(" and ".join(found[self.generator, rule][0] for rule in self.rules) for found in verdicts))

    def print_if_wrong(self, seed: int, found: Verdicts) -> None:
        """Print the verdict of one repetition, with its evidence, if it isn't what is required."""
        if self.is_met(found) != (self.at_least > 0):
            verdicts = "; ".join(f"{found[self.generator, rule]}" for rule in self.rules)
            print(f"  seed {seed}, {self.words}: {verdicts}", flush=True)


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), in percent."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


@dataclass(frozen=True)
class Journal:
    """What was found in each repetition, as JSON, written as soon as it has ended."""

    path: Path
    code: str  # the digest of all code on which it depends: what other code has found is not read

    def known(self, source: str) -> dict[int, Any]:
        """What the same code has found on the source, by seed."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        known = (json.loads(line) for line in lines)
        return {seed: found for name, code, seed, found in known if (name, code) == (source, self.code)}

    def add(self, source: str, seed: int, found: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps([source, self.code, seed, found]) + "\n")


def code_digest(*files: Path) -> str:
    """The digest of benchmarks' `files`, and of the code of the package that they import."""
    own = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(own + digest(imported_files(*files) - set(files)).encode()).hexdigest()[:16]
