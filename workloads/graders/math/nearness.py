"""Numbers that math-verify rounds to one: small ones differ by more than their rounding. For sympy values.

math-verify compares at 6 decimal places, and exact values at an absolute 1e-15. From 1e-3 upwards these are 4 figures
and more; below, `.0000672` and `.0000673`, or `2^{-60}` and `2^{-61}`, would be equal.
"""

from typing import Any

from sympy import Float, Rational, Tuple
from sympy.core.basic import Basic
from sympy.sets.sets import FiniteSet

SMALL = 1e-3
BETWEEN_EXACT, BETWEEN_DECIMALS, OF_A_ROUNDED = 1e-12, 1e-5, 1e-3
"""Relative differences: of two exact values, of two decimals, of an exact value and its decimal."""
OF_FLOATS = 1e-9
"""The relative difference that arithmetic with floats leaves."""
PRECISION = 30


def are_near(gold: Any, answer: Any) -> bool:
    """False if two values that math-verify takes for equal are small numbers, or hold ones, that are not."""
    if isinstance(gold, (Tuple, FiniteSet)) and isinstance(answer, (Tuple, FiniteSet)) and len(gold) == len(answer):
        rights, givens = _numbers(gold), _numbers(answer)
        if isinstance(gold, FiniteSet) or isinstance(answer, FiniteSet):
            rights, givens = sorted(rights, key=_sortable), sorted(givens, key=_sortable)
        return len(rights) != len(givens) or all(map(_are_near, rights, givens))
    return _are_near(gold, answer)


def _numbers(values: Any) -> list[Any]:
    return [value for value in values.args if getattr(value, "is_number", False)]


def _sortable(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _are_near(gold: Any, answer: Any) -> bool:
    if not (isinstance(gold, Basic) and isinstance(answer, Basic)):
        return True
    if not (getattr(gold, "is_number", False) and getattr(answer, "is_number", False)):
        return True
    right, given = _value(gold), _value(answer)
    if right is None or given is None:
        return True
    if answer.is_Float and not gold.has(Float) and not _rounds(answer, given, right):
        return False
    if max(abs(right), abs(given)) >= SMALL:
        return True
    decimals = gold.has(Float) + answer.has(Float)
    allowed = (BETWEEN_EXACT, OF_A_ROUNDED, BETWEEN_DECIMALS)[decimals]
    return bool(abs(right - given) <= allowed * max(abs(right), abs(given)))


def _rounds(decimal: Any, given: Any, exact: Any) -> bool:
    """Returns whether the decimal is `exact` rounded or cut off at its last place, or within 1e-9 of it."""
    digits = str(decimal)
    if "e" in digits or abs(given - exact) <= OF_FLOATS * abs(exact):
        return True
    place = Rational(1, 10 ** len(digits.partition(".")[2].rstrip("0")))
    return bool(abs(given - exact) * 2 <= place or (abs(given) < abs(exact) and abs(given - exact) < place))


def _value(number: Any) -> Any:
    """Returns a rational number with the certain digits of `number`; None if it is not real or has no certain digit."""
    value = number.evalf(PRECISION)
    if getattr(value, "is_Rational", False):
        return value
    if not getattr(value, "is_Float", False) or value._prec < 20:
        return None
    return Rational(str(value))
