"""Tests whether a difference is at least, or at most, a margin: evidence for "no difference". Pure."""

from workloads.results.stats.bounded_mean import tail
from workloads.results.stats.difference import difference_statistic
from workloads.results.stats.paired import Pairs

MARGIN = 0.05
"""The smallest difference that counts for a claim of no difference: 5 points."""


def is_within_margin(interval: tuple[float, float] | None, margin: float = MARGIN) -> bool:
    """Returns whether the whole interval is within `margin` of 0: at its confidence the two are equivalent.

    False without one.
    """
    return interval is not None and -margin < interval[0] and interval[1] < margin


def above_p(pairs: Pairs, bound: float) -> float:
    """Returns the one-sided p of: first - second is `bound` or less, in -1..1. Small: the difference is above it.

    With one output a problem: Tango's score test. With several: the score test of the mean by problem.
    """
    return _tail(difference_statistic(pairs, bound), pairs)


def below_p(pairs: Pairs, bound: float) -> float:
    """Returns the one-sided p of: first - second is `bound` or more. Small: the difference is below it."""
    return _tail(-difference_statistic(pairs, bound), pairs)


def equivalence_p(pairs: Pairs, margin: float) -> float:
    """Returns the p of: the two differ by `margin` or more, in 0..1. Small: they are equivalent within it.

    Two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657-680): the larger of their p values.
    """
    return max(above_p(pairs, -margin), below_p(pairs, margin))


def _tail(statistic: float, pairs: Pairs) -> float:
    """Returns the probability of a statistic of at least this size, also below zero."""
    upper = tail(abs(statistic), pairs.n, single=pairs.single)
    return upper if statistic >= 0 else 1 - upper
