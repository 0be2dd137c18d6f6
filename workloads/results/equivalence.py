"""Tests of differences that are no smaller, or no larger, than a margin: what supports "no difference". Pure."""

import numpy as np
from scipy.stats import norm, t

from workloads.results.difference import score_z
from workloads.results.paired import Pairs


def above_p(pairs: Pairs, bound: float) -> float:
    """One-sided p of: first - second is `bound` or less, in -1..1. Small: the difference is above it.

    With one output a problem: Tango's score test. With several: t test over problems, and not below what the number
    of problems allows where all differences are equal.
    """
    return _p(pairs, bound, above=True)


def below_p(pairs: Pairs, bound: float) -> float:
    """One-sided p of: first - second is `bound` or more. Small: the difference is below it."""
    return _p(pairs, bound, above=False)


def equivalence_p(pairs: Pairs, margin: float) -> float:
    """The p of: the two differ by `margin` or more, in 0..1. Small: they are equivalent within it.

    Two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657-680): the larger of their p values.
    """
    return max(above_p(pairs, -margin), below_p(pairs, margin))


def _p(pairs: Pairs, bound: float, *, above: bool) -> float:
    if pairs.single:
        z = score_z(pairs.only_first, pairs.only_second, pairs.n, bound)
        return float(norm.sf(z) if above else norm.cdf(z))
    values = np.asarray(pairs.differences)
    n, distance = len(values), float(np.mean(values)) - bound
    smallest = _exact_floor(n, bound)
    deviation = float(np.std(values, ddof=1)) if n > 1 else 0.0
    if deviation == 0.0:
        toward = distance > 0 if above else distance < 0
        return smallest if toward else 1.0
    statistic = distance / (deviation / n**0.5)
    p = float(t.sf(statistic, n - 1) if above else t.cdf(statistic, n - 1))
    return max(p, smallest)


def _exact_floor(n: int, bound: float) -> float:
    """Chance that no problem of n shows a difference, if a share of `bound` of all problems has one; at 0 of signs."""
    return float(0.5**n if bound == 0 else (1 - abs(bound)) ** n)
