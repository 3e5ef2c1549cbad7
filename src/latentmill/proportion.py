"""How many of some images are of a kind, and which shares of all such images agree with that."""

from dataclasses import dataclass

from scipy.special import betaincinv

CONFIDENCE = 0.95  # of each one-sided bound


@dataclass(frozen=True)
class Found:
    """How many of some images the search has found."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of

    def highest(self, confidence: float = CONFIDENCE) -> float:
        """The upper bound of the share among all such images (Clopper & Pearson 1934): for none of N about 3 / N."""
        others = self.of - self.count
        return float(betaincinv(self.count + 1, others, confidence)) if others else 1.0

    def lowest(self, confidence: float = CONFIDENCE) -> float:
        """The lower bound."""
        others = self.of - self.count
        return float(betaincinv(self.count, others + 1, 1 - confidence)) if self.count else 0.0
