"""A returned value is right by evalplus's rules."""

import math
from collections.abc import Sequence

import pytest

from workloads.benchmarks import Suite
from workloads.grade.oracles import SuiteVerdict, judge
from workloads.grade.sandbox.order import Outcome
from workloads.values import encode

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
