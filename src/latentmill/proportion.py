"""How many of some images are of a kind, and which shares of all such images agree with that."""

from dataclasses import dataclass

from scipy.stats import binomtest

CONFIDENCE = 0.95  # of each one-sided bound


@dataclass(frozen=True)
class Found:
    """How many of some images the search has found."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of

    @property
    def highest(self) -> float:
        """The upper bound of the share among all such images (Clopper & Pearson 1934): for none of N about 3 / N."""
        return float(binomtest(self.count, self.of, alternative="less").proportion_ci(CONFIDENCE, "exact").high)

    @property
    def lowest(self) -> float:
        """The lower bound."""
        return float(binomtest(self.count, self.of, alternative="greater").proportion_ci(CONFIDENCE, "exact").low)
