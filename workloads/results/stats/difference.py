"""Differences of two shares with interval and p: paired if the problems are the same, else independent."""

from dataclasses import dataclass, field
from math import asin, ceil, hypot, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

from workloads.results.stats.bounded_mean import mean_interval, score_statistic, two_sided_p
from workloads.results.stats.paired import Pairs
from workloads.results.stats.power import problems_needed
from workloads.results.stats.share import Share, wilson_interval

EDGE = 1 - 1e-9


@dataclass(frozen=True)
class Difference:
    """first - second. `p` is two-sided, of no difference. `needed`: problems that would show it at power 80%.

    `low` and `high`: 95% interval of this comparison alone. `needed`: None if nothing differed, because no number of
    problems shows a difference of zero. `least_p`: the smallest p that an exact test of signs by problem could give, if
    all problems that differ did so in one direction; 0 if only counts are known. `pairs`: for `interval_at`; None if
    only counts are known.
    """

    first: float
    second: float
    n: int
    low: float
    high: float
    p: float
    method: str
    needed: int | None
    least_p: float = 0.0
    pairs: Pairs | None = field(default=None, repr=False, compare=False)

    @property
    def estimate(self) -> float:
        return self.first - self.second

    def interval_at(self, level: float, *, significant: bool) -> tuple[float, float]:
        """Returns bounds at confidence 1 - `level`, which do not contain 0 (or end at it) if and only if it is
        `significant`.

        `significant`: the result of the test at this level. The score interval and McNemar's test are different tests,
        and rarely disagree about 0. The test decides; the sign of a bound of zero shows on which side the interval is.
        Raises ValueError if only counts are known.
        """
        if self.pairs is None:
            raise ValueError("only counts are known")
        low, high = difference_interval(self.pairs, level)
        if not significant:
            return min(low, -0.0), max(high, 0.0)
        return (max(low, 0.0), high) if self.estimate > 0 else (low, min(high, -0.0))

    def __str__(self) -> str:
        """Returns text such as -6.0 points (-18.6 to +6.8, p = 0.35, n = 100)."""
        return (
            f"{self.estimate * 100:+.1f} points ({self.low * 100:+.1f} to {self.high * 100:+.1f}, "
            f"{p_text(self.p)}, n = {self.n})"
        )


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def paired_difference(pairs: Pairs, alpha: float = 0.05) -> Difference:
    """Returns the score interval (Tango, Statist. Med. 17 (1998) 891-908) and mid-p McNemar test.

    With several outputs per problem, both from the score test on the mean difference by problem (`bounded_mean`), whose
    interval is never a point. Raises ValueError without problems.
    """
    if not pairs.n:
        raise ValueError("no problem is shared by the two models")
    first, second = float(np.mean(pairs.first)), float(np.mean(pairs.second))
    low, high = difference_interval(pairs, alpha)
    if pairs.single:
        p, method = mid_p(pairs.only_first, pairs.only_second), "paired: mid-p McNemar, score interval"
    else:
        p = two_sided_p(difference_statistic(pairs, 0.0), pairs.n, single=False)
        method = "paired: score test by problem"
    needed = problems_needed(abs(first - second), pairs.mean_square)
    least_p = min(1.0, 2.0 ** (1 - pairs.only_first - pairs.only_second))
    return Difference(first, second, pairs.n, low, high, p, method, needed, least_p, pairs)


def independent_difference(first: Share, second: Share, alpha: float = 0.05) -> Difference:
    """Returns, for counts without problems, the hybrid score interval (Newcombe, Statist. Med. 17 (1998) 873-890),
    pooled z test.

    If the problems were in fact the same, it is conservative if answers agree more often than by chance.
    """
    a, b = first.k / first.n, second.k / second.n
    (a_low, a_high), (b_low, b_high) = (wilson_interval(share.k, share.n, alpha) for share in (first, second))
    low, high = a - b - hypot(a - a_low, b_high - b), a - b + hypot(a_high - a, b - b_low)
    both = (first.k + second.k) / (first.n + second.n)
    error = sqrt(both * (1 - both) * (1 / first.n + 1 / second.n))
    p = 2 * float(norm.sf(abs(a - b) / error)) if error else 1.0
    needed = problems_needed_independent(a, b)
    return Difference(a, b, min(first.n, second.n), low, high, p, "independent: z, hybrid score interval", needed)


def mid_p(only_first: int, only_second: int) -> float:
    """Returns the two-sided McNemar p (Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91)."""
    if only_first == only_second:
        return 1.0
    fewer, n = min(only_first, only_second), only_first + only_second
    return float(2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5))


def score_z(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Returns Tango's statistic of H0: share of first - share of second = `difference`.

    Decreases as `difference` grows.
    """
    b, c = only_first, only_second
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    restricted = max(0.0, (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n))
    variance = n * (2 * restricted + difference * (1 - difference))
    distance = b - c - n * difference
    return distance / sqrt(variance) if variance > 0 else (0.0 if distance == 0 else float("inf") * distance)


def score_interval(only_first: int, only_second: int, n: int, alpha: float) -> tuple[float, float]:
    """Returns the two-sided interval at confidence 1 - alpha."""
    z = float(norm.ppf(1 - alpha / 2))
    return _bound(only_first, only_second, n, z), _bound(only_first, only_second, n, -z)


def _bound(only_first: int, only_second: int, n: int, z: float) -> float:
    def surplus(difference: float) -> float:
        return score_z(only_first, only_second, n, difference) - z

    if surplus(-EDGE) <= 0:
        return -1.0
    return 1.0 if surplus(EDGE) >= 0 else float(brentq(surplus, -EDGE, EDGE))


def difference_interval(pairs: Pairs, alpha: float) -> tuple[float, float]:
    """Returns the two-sided score interval of the mean of first - second, at confidence 1 - `alpha`."""
    if pairs.single:
        return score_interval(pairs.only_first, pairs.only_second, pairs.n, alpha)
    return mean_interval(pairs.differences, -1.0, 1.0, alpha, single=False)


def difference_statistic(pairs: Pairs, difference: float) -> float:
    """Returns the signed score statistic of "the mean of first - second is `difference`", for any number of outputs per
    problem.

    With one output per problem it equals `score_z` of the counts.
    """
    if pairs.single:
        return score_z(pairs.only_first, pairs.only_second, pairs.n, difference)
    return score_statistic(np.asarray(pairs.differences) - difference, -1 - difference, 1 - difference)


def holm(p_values: list[float]) -> list[float]:
    """Returns adjusted p-values of one family, in the given order (Holm, Scand. J. Statist. 6 (1979) 65-70)."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def problems_needed_independent(first: float, second: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Returns problems per model for two independent shares, by Cohen's effect size h."""
    if first == second:
        return None
    reach = float(norm.isf(alpha / 2)) + float(norm.ppf(power))
    effect = 2 * (asin(sqrt(first)) - asin(sqrt(second)))
    return max(1, ceil(2 * (reach / effect) ** 2))
