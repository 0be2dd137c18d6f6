"""Shares with their confidence interval and their k and n."""

from dataclasses import dataclass
from math import sqrt

from scipy.special import ndtri


@dataclass(frozen=True)
class Share:
    """k of n outputs, with a 95% interval. n = 0: no share.

    The interval is the Wilson score interval (Wilson, JASA 22 (1927) 209-212) if every output belongs to a different
    problem. With several outputs per problem `bounded_mean.clustered_share` makes it: `problems` and `bounds` are set.
    """

    k: int
    n: int
    problems: int | None = None
    bounds: tuple[float, float] | None = None

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.n:
            return None
        if self.bounds is not None:
            return self.bounds
        low, high = wilson_interval(self.k, self.n)
        return min(low, self.k / self.n), max(high, self.k / self.n)

    def __str__(self) -> str:
        """Returns text such as 73.0% (73/100, 63.6-80.7)."""
        if self.interval is None:
            return "- (0/0)"
        low, high = self.interval
        return f"{self.k / self.n:.1%} ({self.k}/{self.n}, {low * 100:.1f}-{high * 100:.1f})"


def wilson_interval(k: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """Returns the score interval of a share of k in n > 0, in [0, 1] (Wilson, JASA 22 (1927) 209-212).

    An effective number of outputs need not be an integer.
    """
    share, z2 = k / n, float(ndtri(1 - alpha / 2)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2) * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
