"""A returned value is right by evalplus's rules."""

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.benchmarks.model import Suite
from workloads.graders.code.oracles import SuiteVerdict, judge, passes
from workloads.sandbox.order import Outcome
from workloads.typed_json import decode, encode

NAN = float("nan")


def _judge(
    returned: Sequence[object],
    expected: Sequence[object],
    oracle: str = "equal",
    tolerance: float = 0.0,
    arguments: Sequence[object] = (),
) -> SuiteVerdict:
    suite = Suite(
        name="t",
        arguments=(encode(list(arguments)),) * len(expected),
        expected=tuple(map(encode, expected)),
        reference_seconds=(0.0,) * len(expected),
        tolerance=tolerance,
        oracle=oracle,
    )
    return judge(suite, Outcome("k", "finished", tuple(map(encode, returned)), (), "", 0.0, 0.0))


@pytest.mark.parametrize(
    ("returned", "expected", "passed"),
    [
        (4, 4, True),
        (4.0, 4, True),
        (True, 1, True),
        ("4", 4, False),
        ([1, 2], (1, 2), False),
        ({1, 2}, {2, 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        (1.0000005, 1.0, True),
        (1.00001, 1.0, False),
        (1, 1.0000001, False),
        ([0.1 + 0.2], [0.3], True),
        ((0.1 + 0.2,), [0.3], False),
        ([0.3, 0.3], [0.3], False),
        (NAN, NAN, False),
        (math.inf, math.inf, True),
        (None, None, True),
        (object(), 4, False),
    ],
)
def test_equal_or_close_when_floats_are_expected(returned: object, expected: object, passed: bool) -> None:
    assert _judge([returned], [expected]).passed is passed


@pytest.mark.parametrize(
    ("returned", "expected", "passed"),
    [
        (np.float16("inf"), 100_000, False),
        (np.float16("inf"), 10**18, False),
        (np.float32("inf"), 1e300, False),
        (np.float16(2048), 2049, False),
        (np.float16(0), 1e-9, False),
        ([np.float16("inf")], [70_000], False),
        (np.array([np.inf], dtype=np.float16), 100_000, False),
        (np.array([2**53 + 1]), float(2**53), False),
        (np.int8(4), 4, True),
        (np.float64(0.5), 0.5, True),
        (np.float32(0.5), 0.5, True),
        (np.array([4]), 4, True),
        (np.array([1, 2]), [1, 2], False),
        ([np.int64(1), np.bool_(True)], [1, 1], True),
        (np.longdouble(4), 4, True),
        (np.longdouble("1e400"), 10**400, False),
        ({"a": np.float64(1.0)}, {"a": 1}, True),
        ([(1, 2)], [(1.0, 2)], True),
        (np.float64(1.0000001), 1.0, False),
        ([np.float64(1.0000001)], [1.0], True),
        (np.array([1.0000001, 2.0]), np.array([1.0, 2.0]), False),
    ],
)
def test_numbers_of_numpy_are_compared_as_python_numbers(returned: object, expected: object, passed: bool) -> None:
    """numpy rounds to the type of its scalar: as a float16 every number above 65,504 is infinity."""
    assert _judge([returned], [expected]).passed is passed


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from([0.5, 1.0, -0.0, 1e300, float("inf")]),
    st.sampled_from(["", "a", "1"]),
    st.none(),
    st.fractions(max_denominator=4),
)
NUMBERS = (np.int8, np.int64, np.uint8, np.float64, np.bool_)


class Pair(NamedTuple):
    first: object
    second: object


class Text(str):
    pass


class Number(int):
    pass


def _dressed(value: object, draw: Callable[[int], int]) -> object:
    """An equal value in other types: numpy types that hold it exactly, subclasses, defaultdicts."""
    choice = draw(3)
    if choice == 0 and isinstance(value, bool | int | float):
        for kind in NUMBERS[draw(len(NUMBERS)) :]:
            with contextlib.suppress(OverflowError, ValueError):
                if kind(value) == value:
                    return kind(value)
    match value:
        case str() if choice:
            return Text(value)
        case int() if choice == 1:
            return Number(value)
        case list():
            return [_dressed(item, draw) for item in value]
        case (first, second) if choice:
            return Pair(_dressed(first, draw), _dressed(second, draw))
        case dict():
            return defaultdict(list, {_dressed(k, draw): _dressed(v, draw) for k, v in value.items()})
    return value


NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.data(), NESTED, NESTED)
def test_values_are_equal_where_python_says_so(data: st.DataObject, one: object, other: object) -> None:
    """Differential test: Python's `==` on plain values against ours on the same values decoded from other types.

    (numpy compares a number with a list element by element; here it equals no list.)
    """

    def draw(choices: int) -> int:
        return data.draw(st.integers(0, choices - 1))

    dressed = _dressed(one, draw)
    for left, right, equal in ((one, other, one == other), (dressed, one, True), (dressed, other, one == other)):
        left_decoded, right_decoded = (decode(encode([side, "text"])) for side in (left, right))
        assert passes(left_decoded, right_decoded, "equal", lambda: (), 0.0) is equal, (left, right)


def test_the_tolerance_stays_once_a_float_was_expected() -> None:
    assert not _judge([10**9 + 1], [10**9]).passed
    assert _judge([1.5, 10**9 + 1], [1.5, 10**9]).passed


@pytest.mark.parametrize(
    ("oracle", "returned", "expected", "arguments", "passed"),
    [
        ("same set", [2, 1, 1], (1, 2), (), True),
        ("same set", (x for x in (1, 2)), (1, 2), (), True),
        ("same set", [1], (1, 2), (), False),
        ("same set", [[1]], ([1],), (), False),
        ("same set", 5, (1, 2), (), False),
        ("not none", object(), 3, (), True),
        ("not none", None, 3, (), False),
        ("not none", False, None, (), True),
        ("not none", True, None, (), False),
        ("anything", "whatever", 3, (), True),
        ("equal or 0", 0, 3, (), True),
        ("equal or 0", 1, 3, (), False),
        ("pyramid surface", 33, 0, (3, 4), False),
        ("pyramid surface", 35, 0, (3, 4), True),
        ("digit distance", 3, 0, (12, 21 + 100), True),
        ("digit distance", 9, 0, (12, 21), False),
        ("truth", [1], True, (), True),
        ("truth", [], False, (), True),
        ("truth", object(), True, (), False),
    ],
)
def test_oracles_of_single_tasks(
    oracle: str, returned: object, expected: object, arguments: Sequence[object], passed: bool
) -> None:
    assert _judge([returned], [expected], oracle, 0.0, arguments).passed is passed


def test_the_first_failing_test_is_the_evidence() -> None:
    verdict = _judge([1, 5, 6], [1, 2, 3], arguments=(7,))
    assert (verdict.failing, verdict.returned, verdict.expected, verdict.arguments) == (1, "5", "2", '["l",7]')


def test_fewer_values_than_tests_never_pass() -> None:
    suite = Suite("t", ("[]", "[]"), ("1", "2"), (0.0, 0.0))
    assert judge(suite, Outcome("k", "finished", ("1",), (), "", 0, 0)).cause == "unreadable_output"
    assert judge(suite, Outcome("k", "exit", ("1",), (), "", 0, 0)).cause == "exit"
    assert judge(suite, Outcome("k", "timeout", ("1", "2"), (), "", 0, 0)).cause == "timeout"


@given(
    st.text(max_size=30) | st.sampled_from(["[" * 5_000, '["n","<f8",[1],[["l"]]]', '["s","\\ud800"]', '["c",1e999,1]'])
)
def test_any_output_of_a_program_gets_a_verdict(text: str) -> None:
    suite = Suite("t", ('["l"]',), ("1",), (0.0,))
    for oracle in ("equal", "same set", "truth", "not none", "equal or 0"):
        verdict = judge(replace(suite, oracle=oracle), Outcome("k", "finished", (text,), (), "", 0.0, 0.0))
        json.dumps(asdict(verdict)).encode()
        verdict.detail.encode()
