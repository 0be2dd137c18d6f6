"""Adjustment of p values and intervals for the number of comparisons, with a share of the error for each group. Pure.

A comparison that could not be significant, whatever the direction of its differences, gets no share of the error
(Tarone, Biometrics 46 (1990) 515-522). The others are tested by weighted Holm. Each comparison also gets the level of
an interval that agrees with its test.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

GroupName = TypeVar("GroupName", bound=Hashable)


@dataclass(frozen=True)
class Comparison(Generic[GroupName]):
    """`least_p`: the smallest p that the differing problems could give, all in one direction; 0 if unknown."""

    group: GroupName
    p: float
    least_p: float = 0.0


@dataclass(frozen=True)
class Adjusted:
    """`p` is adjusted. An interval at confidence 1 - `level` does not contain 0 if and only if `p` is at most alpha."""

    p: float
    level: float


def adjust(
    comparisons: Sequence[Comparison[GroupName]], shares: Mapping[GroupName, float], alpha: float
) -> list[Adjusted]:
    """Returns results in the given order. The probability of any false rejection among all comparisons is at most
    `alpha`.

    `shares`: each group's share of the error; if nothing in a group can be significant, the others get its share. Only
    `least_p` decides which comparisons can be significant, and it does not depend on the directions of the differences,
    so Holm's guarantee holds.

    Levels: for a comparison that is not rejected, the level at which Holm's procedure stops (Guilbaud, Biom. J. 50
    (2008) 678-692). For a rejected one, Bonferroni's, or if that is too strict, the level at which Holm's procedure
    rejects. For one that cannot be significant, Bonferroni's over all comparisons. Raises ValueError for a p value that
    is not a number.
    """
    shares = {name: share for name, share in shares.items() if any(item.group == name for item in comparisons)}
    tested = _tested(comparisons, shares, alpha)
    total = sum(shares.values())
    sizes = {name: sum(item.group == name for item in comparisons) for name in shares}
    found = [Adjusted(1.0, alpha * shares[item.group] / total / sizes[item.group]) for item in comparisons]
    in_play = {comparisons[index].group for index in tested}
    total = sum(share for name, share in shares.items() if name in in_play)
    counts = {name: sum(comparisons[index].group == name for index in tested) for name in in_play}
    weights = [shares[comparisons[i].group] / total / counts[comparisons[i].group] for i in tested]
    p_values = [comparisons[index].p for index in tested]
    adjusted = weighted_holm(p_values, weights)
    stopped: float | None = None
    for position, left in _steps(p_values, weights):
        weight, is_rejected = weights[position], adjusted[position] <= alpha
        if not is_rejected and stopped is None:
            stopped = left
        strict = alpha * weight
        level = strict if is_rejected and p_values[position] <= strict else strict / (stopped or left)
        found[tested[position]] = Adjusted(adjusted[position], min(alpha, level))
    return found


def _tested(comparisons: Sequence[Comparison[GroupName]], shares: Mapping[GroupName, float], alpha: float) -> list[int]:
    """Returns indices of the tested comparisons, by Tarone's rule in each group."""
    in_play = dict(shares)
    while in_play:
        found: dict[GroupName, list[int]] = {}
        for name, share in in_play.items():
            own = [index for index, item in enumerate(comparisons) if item.group == name]
            level = alpha * share / sum(in_play.values())
            number = tarone_number([comparisons[index].least_p for index in own], level)
            found[name] = [index for index in own if comparisons[index].least_p <= level / number]
        empty = [name for name, own in found.items() if not own]
        if not empty:
            return sorted(index for own in found.values() for index in own)
        for name in empty:
            del in_play[name]
    return []


def tarone_number(least: Sequence[float], level: float) -> int:
    """Returns Tarone's K: the smallest K of 1, 2, ...

    for which at most K of the comparisons can have a p of `level` / K.
    """
    number = 1
    while sum(p <= level / number for p in least) > number:
        number += 1
    return number


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Returns adjusted p values in the given order: at 5%, the probability of any false rejection is at most 5%.

    Holm's procedure with weights (Holm, Scand. J. Statist. 6 (1979) 65-70, section 3): hypotheses are taken in the
    order of p / weight, and each p is multiplied by the sum of the weights that are left over its own. Equal weights
    give the usual procedure. Weights must be above 0. Raises ValueError for a p value that is not a number.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for index, left in _steps(p_values, weights):
        highest = max(highest, min(1.0, p_values[index] * left / weights[index]))
        adjusted[index] = highest
    return adjusted


def _steps(p_values: Sequence[float], weights: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Yields (index, sum of its weight and of those after it) in the order of Holm's procedure."""
    if any(p != p for p in p_values):
        raise ValueError("a p value is not a number")
    left = sum(weights)
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i]):
        yield index, left
        left -= weights[index]
