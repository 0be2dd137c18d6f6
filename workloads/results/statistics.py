"""Shares with their doubt: every figure keeps its k and n."""

from dataclasses import dataclass

from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Share:
    """k of n, and the Wilson score interval (Wilson, JASA 22 (1927) 209-212) at 95%. n = 0: no share."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.n:
            return None
        low, high = proportion_confint(self.k, self.n, alpha=0.05, method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        """73.0% (73/100, 63.6-80.7)"""
        if self.interval is None:
            return "- (0/0)"
        low, high = self.interval
        return f"{self.k / self.n:.1%} ({self.k}/{self.n}, {low * 100:.1f}-{high * 100:.1f})"
