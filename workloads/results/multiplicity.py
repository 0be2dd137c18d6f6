"""Adjustment of p values for the number of comparisons, with a share of the error for each group of them. Pure."""

from collections.abc import Sequence


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: at 5%, the chance of any false rejection is at most 5%.

    Holm's procedure with weights (Holm, Scand. J. Statist. 6 (1979) 65-70, section 3): hypotheses are taken in the
    order of p / weight, and each p is multiplied by the sum of the weights that are left over its own. Equal weights
    give the usual procedure. Weights must be above 0. Raises ValueError for a p value that is not a number.
    """
    if any(p != p for p in p_values):
        raise ValueError("a p value is not a number")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i])
    left = sum(weights)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for index in order:
        highest = max(highest, min(1.0, p_values[index] * left / weights[index]))
        adjusted[index] = highest
        left -= weights[index]
    return adjusted
