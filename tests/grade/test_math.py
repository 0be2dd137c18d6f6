"""Math answers: equal ones are right, and an endless expression affects only itself."""

from collections.abc import Callable
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parser

from workloads.benchmarks.load import load
from workloads.benchmarks.model import Benchmark, Problem
from workloads.grade.bench import grade_golds
from workloads.grade.grading import _checks, grade_items
from workloads.grade.items import Item
from workloads.graders.checking.client import AnswerCheck, CheckFailed, check_all
from workloads.graders.math import grader
from workloads.graders.registry import GRADERS

RIGHT = [
    (r"\frac12", r"\frac{1}{2}"), ("0.5", r"\frac{1}{2}"), (r"\dfrac{\sqrt{4}}{4}", r"\frac{1}{2}"), ("x=5", "5"),
    (r"12\text{ cm}", "12"), ("10\\%", "10"), ("1,234", "1234"), (r"\text{even}", r"\text{even}"),
    (r"\{2,1\}", r"\{1,2\}"), (r"(1,2)", r"\left( 1, 2 \right)"), (r"2\pi", r"\pi \cdot 2"), (r"90^\circ", "90"),
]  # fmt: skip
WRONG = [("2", "3"), ("(2,1)", "(1,2)"), (r"\text{odd}", r"\text{even}"), ("x", "5"), ("", "5"), (r"\frac{", "5")]
PATHOLOGICAL = ["9^{9^{9^{9^{9}}}}", "(((10!)!)!)!", "{" * 300 + "1" + "}" * 300, r"\sqrt{" * 150 + "2" + "}" * 150]


@pytest.mark.slow
def test_answers_are_compared_by_value_and_pathological_ones_do_not_affect_the_others() -> None:
    checks = {f"right {a}": AnswerCheck("math", a, g) for a, g in RIGHT} | {
        f"wrong {a}": AnswerCheck("math", a, g) for a, g in WRONG
    }
    for number, answer in enumerate(PATHOLOGICAL):
        checks |= {f"bad {number}": AnswerCheck("math", answer, "5"), f"after {number}": AnswerCheck("math", "5", "5")}
    replies = check_all(checks, workers=2).replies
    for key, reply in replies.items():
        if key.startswith(("right", "after")):
            assert isinstance(reply, dict), (key, reply)
            assert reply["right"], (key, reply)
        else:
            assert isinstance(reply, CheckFailed) or not reply["right"], key


@pytest.mark.slow
def test_all_golds_of_math_500_are_right() -> None:
    report = grade_golds(load("math-500"), workers=2)
    assert (report.tested, report.wrong, report.untested) == (500, (), ())


GOLDS = [str(problem.answer) for problem in load("math-500").problems]
CHANGES = [
    ("\\frac", "\\dfrac"), ("\\left", ""), ("\\right", ""), (" ", ""), (",", ", "), ("+", "-"), ("1", "2"), ("{", " {"), ("x", "y"),
    ("\\text", "\\mathrm"), ("\\pi", "3.14"), ("^", "^ "), ("(", "["), (")", "]"), ("=", " = "), ("\\%", ""), ("\\", "\\\\"),
]  # fmt: skip
CHANGED = st.builds(
    lambda gold, changes: reduce(lambda text, change: text.replace(*change), changes, gold),
    st.sampled_from(GOLDS),
    st.lists(st.sampled_from(CHANGES), max_size=4),
)


def _checked_anew(answer: str, gold: str) -> grader.MathVerdict:
    """The verdict without any cache between answers."""
    kept = (
        parser.parse_latex_cached,
        parser.extract_latex,
        parser.parse_expr_cached,
        grader._parsed,
        grader._set,
    )
    for cache in kept:
        cache.cache_clear()
    return grader.check(answer, gold)


def _outcome(answer: str, gold: str, check: Callable[[str, str], grader.MathVerdict]) -> object:
    try:
        verdict = check(answer, gold)
    except Exception as e:
        return type(e)
    return verdict.right, verdict.parsed[:300], verdict.gold[:300]


@pytest.mark.slow
@pytest.mark.long
def test_keeping_what_was_parsed_changes_no_verdict_on_any_gold() -> None:
    for gold, other in zip(GOLDS, [*GOLDS[1:], GOLDS[0]], strict=True):
        for answer in (gold, other):
            anew = _outcome(answer, gold, _checked_anew)
            assert anew == _outcome(answer, gold, grader.check)


@pytest.mark.slow
@settings(max_examples=100, derandomize=True)
@given(CHANGED, st.sampled_from(GOLDS) | st.none())
@pytest.mark.long
def test_keeping_what_was_parsed_changes_no_verdict_on_a_variant(answer: str, other: str | None) -> None:
    gold = answer if other is None else other
    anew = _outcome(answer, gold, _checked_anew)
    assert anew == _outcome(answer, gold, grader.check)


@pytest.mark.slow
def test_problems_with_one_gold_share_a_check_and_each_has_its_grade() -> None:
    problems = tuple(Problem(id=name, prompt="p", answer="5") for name in ("a", "b"))
    benchmark = Benchmark("mine", "math", "boxed", None, "0" * 64, problems, ())
    items = [Item(p.id, 0, 8, 5, True, False, True, "5.0", None) for p in problems]
    checks = _checks(GRADERS["math"], {p.id: p for p in problems}, [(i.problem, "5.0") for i in items], {})
    assert list(checks.values()) == [AnswerCheck("math", "5.0", "5")]
    assert [(g.problem, g.verdict) for g in grade_items(benchmark, items, {}, 1).grades] == [
        ("a", "right"),
        ("b", "right"),
    ]
