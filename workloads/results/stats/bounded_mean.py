"""Score test and interval for the mean of bounded values, one value per problem. Pure.

With one output per problem they are Wilson's interval for a share and Tango's for a paired difference. With several
outputs per problem the unit is still the problem, because outputs of one problem are not independent.

The hypothesis "the mean is 0" is tested with the variance that it implies: that of the nonparametric maximum likelihood
distribution with mean 0 on [lowest, highest] (Owen, Empirical Likelihood (2001), chapter 2). It may place mass on the
ends of the range although no such value was observed, so the interval is not a point when all values are equal.
`python -m perf.intervals` measures its coverage.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student

from workloads.results.stats.share import Share

EDGE = 1e-9


def score_statistic(values: np.ndarray, lowest: float, highest: float) -> float:
    """Returns the signed score statistic of "the mean of `values` is 0".

    `values`: [problems], each in [lowest, highest].

    Infinite if no distribution on the range could have mean 0. With weights 1 / (m (1 + t v)) the implied variance is
    mean / t, where t solves sum(v / (1 + t v)) = 0, or is the largest t that keeps every point of the range at a weight
    of 0 or more.
    """
    different, counts = np.unique(values, return_counts=True)
    total = float(np.sum(counts * different))
    if total == 0:
        return 0.0
    sign = 1.0 if total > 0 else -1.0
    signed = sign * different
    room = -lowest if sign > 0 else highest
    if room <= 0:
        return sign * float("inf")
    limit = 1 / room

    def slope(tilt: float) -> float:
        return float(np.sum(counts * signed / (1 + tilt * signed)))

    inside = limit * (1 - 1e-12)
    tilt = limit if slope(inside) >= 0 else float(brentq(slope, 0.0, inside, xtol=1e-14))
    return float(sign * np.sqrt(tilt * abs(total)))


def two_sided_p(statistic: float, problems: int, *, single: bool) -> float:
    """`single`: one output per problem, normal distribution; otherwise Student's t with problems - 1 degrees."""
    return min(1.0, 2 * tail(abs(statistic), problems, single=single))


def tail(statistic: float, problems: int, *, single: bool) -> float:
    """Returns the probability of a statistic at least as large if the hypothesis is true."""
    if single:
        return float(norm.sf(statistic))
    if problems < 2:
        return 0.5
    return float(student.sf(statistic * np.sqrt((problems - 1) / problems), problems - 1))


def critical(level: float, problems: int, *, single: bool) -> float:
    """Returns the statistic whose `tail` is `level`; infinite with one problem and several outputs."""
    if single:
        return float(norm.isf(level))
    if problems < 2:
        return float("inf")
    return float(student.isf(level, problems - 1) * np.sqrt(problems / (problems - 1)))


def bounds_where(
    statistic: Callable[[float], float], threshold: float, lowest: float, highest: float
) -> tuple[float, float]:
    """Returns the parameters between which |statistic| is below `threshold`. `statistic` decreases in its parameter."""
    if not np.isfinite(threshold):
        return lowest, highest
    start, end = lowest + EDGE, highest - EDGE

    def bound(target: float, outside: tuple[float, float]) -> float:
        if statistic(start) <= target:
            return outside[0]
        if statistic(end) >= target:
            return outside[1]
        return float(brentq(lambda at: statistic(at) - target, start, end, xtol=1e-10))

    return bound(threshold, (lowest, highest)), bound(-threshold, (lowest, highest))


def mean_interval(
    values: Sequence[float], lowest: float, highest: float, alpha: float, *, single: bool
) -> tuple[float, float]:
    """Returns the two-sided interval at 1 - `alpha` for the mean of `values`: [problems], each in [lowest, highest].

    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("no problem, no interval")
    array = np.asarray(values, dtype=float)
    threshold = critical(alpha / 2, len(array), single=single)
    low, high = bounds_where(
        lambda mean: score_statistic(array - mean, lowest - mean, highest - mean), threshold, lowest, highest
    )
    estimate = float(np.mean(array))
    return min(low, estimate), max(high, estimate)


def clustered_share(counts: Sequence[tuple[int, int]], alpha: float = 0.05) -> Share:
    """Returns a share of outputs with an interval by problem. `counts`: per problem (outputs that count, outputs).

    Problems may have different numbers of outputs: the share is a ratio of two sums (for example right outputs among
    completed ones). With at most one output per problem it is `Share(k, n)` with Wilson's interval.
    """
    used = [(k, n) for k, n in counts if n]
    total = Share(sum(k for k, _ in used), sum(n for _, n in used))
    if all(n == 1 for _, n in used):
        return total
    k, n = (np.array(column, dtype=float) for column in zip(*used, strict=True))
    most = float(n.max())
    threshold = critical(alpha / 2, len(used), single=False)
    low, high = bounds_where(
        lambda share: score_statistic((k - share * n) / most, -share, 1 - share), threshold, 0.0, 1.0
    )
    estimate = total.k / total.n
    return Share(total.k, total.n, problems=len(used), bounds=(min(low, estimate), max(high, estimate)))


def equal_shares_p(scores: np.ndarray) -> float:
    """Returns the p of "all models have the same share".

    `scores`: [problems, models], the share of a problem's outputs that count.

    Cochran's Q for values in [0, 1]: the sum of squares of the models' totals over its variance under exchange within a
    problem, chi-squared with models - 1 degrees. With one output per problem it is Cochran's Q. 1.0 if no problem
    differs between models.
    """
    models = scores.shape[1]
    within = float(np.sum(np.var(scores, axis=1, ddof=1))) if models > 1 else 0.0
    if not within:
        return 1.0
    totals = scores.sum(axis=0)
    return float(chi2.sf(float(np.sum((totals - totals.mean()) ** 2)) / within, models - 1))
