"""Compares a candidate's return values with the expected ones: evalplus 0.3.1's rules, on decoded values, outside the
sandbox.

`decode` returns numbers of numpy as Python numbers, which compare exactly: evalplus lets numpy round them first. Its
rules (eval/__init__.py, `unsafe_execute`): `==`, replaced for some tasks by a special oracle; if that fails and there
is a tolerance, the same type and `numpy.allclose(rtol=1e-7, atol=tolerance)`, for values of the same shape (numpy would
broadcast one, and finds no difference between `[[]]` and `[1.0]`); a task without a tolerance gets 1e-6 from its first
test on that expects floats. If a comparison raises any exception, the test has failed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workloads.api.grades import Cause
from workloads.benchmarks.model import Suite
from workloads.sandbox.order import End, Outcome
from workloads.typed_json import Digest, Items, Opaque, Subclass, decode

FLOAT_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-7
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class SuiteVerdict:
    """`failing`: index of the first failed test; None if all pass."""

    passed: bool
    cause: Cause | None = None
    failing: int | None = None
    returned: str | None = None
    expected: str | None = None
    arguments: str | None = None
    detail: str = ""


_CAUSES: dict[End, Cause] = {
    "exception": "exception",
    "timeout": "timeout",
    "memory": "memory",
    "exit": "exit",
    "crash": "crash",
    "syntax_error": "syntax_error",
    "missing_function": "missing_function",
    "flood": "unreadable_output",
}


def judge(suite: Suite, outcome: Outcome) -> SuiteVerdict:
    """Returns the first wrong test, or how the execution ended, or passed.

    Never raises, for any content of `outcome`.
    """
    tolerance = suite.tolerance
    for index, (returned, expected) in enumerate(zip(outcome.values, suite.expected, strict=False)):
        arguments = suite.arguments[index]
        gold = decode(expected)
        try:
            value = decode(returned)
        except Exception as e:
            return _failed("unreadable_output", index, suite, returned, str(e))
        try:
            right = passes(value, gold, suite.oracle, partial(decode, arguments), tolerance)
        except Exception as e:
            return _failed("failing_test", index, suite, returned, f"{type(e).__name__}: {e}"[:SHOWN_CHARACTERS])
        if not right:
            return _failed("failing_test", index, suite, returned, "")
        tolerance = tolerance_after(gold, tolerance)
    if outcome.end != "finished":
        index = min(len(outcome.values), len(suite.expected) - 1)
        return _failed(_CAUSES[outcome.end], index, suite, None, outcome.detail)
    if len(outcome.values) != len(suite.expected):
        return SuiteVerdict(False, "unreadable_output", detail="another number of values than tests")
    return SuiteVerdict(True)


def _failed(cause: Cause, index: int, suite: Suite, returned: str | None, detail: str) -> SuiteVerdict:
    return SuiteVerdict(
        passed=False,
        cause=cause,
        failing=index,
        returned=None if returned is None else returned[:SHOWN_CHARACTERS],
        expected=suite.expected[index][:SHOWN_CHARACTERS],
        arguments=suite.arguments[index][:SHOWN_CHARACTERS],
        detail=detail[:SHOWN_CHARACTERS].encode(errors="replace").decode(),
    )


def passes(value: Any, gold: Any, oracle: str, arguments: Callable[[], Sequence[Any]], tolerance: float) -> bool:
    """Returns whether one test passes.

    May raise any exception, because values are hostile: the test has then failed.
    """
    if oracle == "polynomial root":
        (coefficients,) = arguments()
        return bool(abs(_polynomial(coefficients, _plain(value))) <= tolerance)
    exact = _oracle(value, gold, oracle, arguments, tolerance)
    tolerance = tolerance_after(gold, tolerance)
    if not exact and tolerance != 0:
        _require(_type(value) == _type(gold))
        plain_value, plain_gold = _numbers(value), _numbers(gold)
        _require(np.shape(plain_value) == np.shape(plain_gold))
        return bool(np.allclose(plain_value, plain_gold, rtol=RELATIVE_TOLERANCE, atol=tolerance))
    return bool(exact)


def tolerance_after(gold: Any, tolerance: float) -> float:
    """Returns the tolerance. A task without one gets it from the first test on that expects floats."""
    return FLOAT_TOLERANCE if tolerance == 0 and _is_floats(gold) else tolerance


def _oracle(value: Any, gold: Any, oracle: str, arguments: Callable[[], Sequence[Any]], tolerance: float) -> Any:
    match oracle:
        case "truth":
            return _truth(value) == bool(gold)
        case "same set":
            return set(_iterable(value)) == set(_iterable(gold))
        case "not none":
            expected = gold is not None
            return value == expected if isinstance(value, bool) else expected == (value is not None)
    equal = _plain(value) == _plain(gold)
    match oracle:
        case "anything":
            return True
        case "equal or 0":
            return equal or _plain(value) == 0
        case "pyramid surface":
            return equal or abs(_plain(value) - _pyramid_surface(*arguments())) <= tolerance
        case "digit distance":
            return equal or _plain(value) == _digit_distance(*arguments())
    return equal


def _require(holds: bool) -> None:
    if not holds:
        raise AssertionError("another type or shape")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Subclass) else value


def _numbers(value: Any) -> Any:
    """Converts an array of Python objects to one of numbers, for numpy's functions."""
    plain = _plain(value)
    return np.array(plain.tolist()) if isinstance(plain, np.ndarray) else plain


def _type(value: Any) -> tuple[type, str]:
    return type(value), value.name if isinstance(value, Subclass) else ""


def _iterable(value: Any) -> Any:
    return value.items if isinstance(value, Items) else _plain(value)


def _truth(value: Any) -> bool:
    if isinstance(value, Opaque | Digest | Items):
        raise AssertionError("the truth of this value is not known")
    return bool(_plain(value))


def _is_floats(gold: Any) -> bool:
    gold = _plain(gold)
    if isinstance(gold, float):
        return True
    items = gold.flat if isinstance(gold, np.ndarray) else gold if isinstance(gold, list | tuple) else ()
    return len(items) > 0 and all(isinstance(item, float) for item in items)


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    """HumanEval/32: the polynomial's value at x. The task asks for a root, and any root is right."""
    return math.fsum(coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients))


def _pyramid_surface(base_edge: float, height: float) -> int:
    """Mbpp/581, read as the height from base to apex: base area and four triangles, rounded."""
    slant = math.hypot(base_edge / 2, height)
    return round(base_edge**2 + 2 * base_edge * slant)


def _digit_distance(first: int, second: int) -> int:
    """Mbpp/558, read digit by digit: numbers are padded with zeros to one length, and their digits' differences
    summed.
    """
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)
