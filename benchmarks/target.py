"""A target, and what was measured of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the benchmark."""

    name: str
    figure: float | None  # None where it could not be measured
    target: str  # as people read it
    unit: str
    holds: bool
    note: str = ""

    def __str__(self) -> str:
        figure = self.note if self.figure is None else f"{self.figure:.3g} {self.unit}"
        verdict = "holds" if self.holds else "falls short"
        return f"{self.name:<58} {figure:<12} {self.target:<14} {verdict}"


@dataclass(frozen=True)
class Target:
    """A bound on a figure: `at_least` or `at_most`."""

    name: str
    unit: str
    at_least: float = float("-inf")
    at_most: float = float("inf")

    def __str__(self) -> str:
        bound = f"≥ {self.at_least:g}" if self.at_least > float("-inf") else f"≤ {self.at_most:g}"
        return f"{bound} {self.unit}"

    def result(self, figure: float, note: str = "") -> Result:
        holds = self.at_least <= figure <= self.at_most
        return Result(self.name, round(figure, 3), str(self), self.unit, holds, note)

    def not_measured(self, needs: str) -> Result:
        """What cannot be measured counts as falling short."""
        return Result(self.name, None, str(self), self.unit, holds=False, note=f"not measured: needs {needs}")
