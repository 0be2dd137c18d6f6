"""Answers that are too costly to evaluate are wrong at once; no ordinary answer is refused."""

from pathlib import Path

import pytest

from tests.grade.test_grading import _benchmark, _item
from workloads.benchmarks.load import load
from workloads.grade.grading import grade_items
from workloads.graders.math.costs import refusal_reason
from workloads.graders.math.grader import check
from workloads.graders.math.text import normal

BOMBS = [
    "(10^9)!", "10^{100000000}", "9^{9^{9^{9}}}", r"2026^{2026^2}", r"\prod_{n=1}^{1000000} n", r"\binom{10^9}{5\cdot 10^8}", "(x+y+z+w+1)^{200}",
    r"\begin{vmatrix}" + (r"a&b&c&d&e&f&g&h&i\\" * 9) + r"\end{vmatrix}", "(" * 900 + "5" + ")" * 900, " [" * 700, r"\binom{1000000}{500000}",
    r"\sum_{k=1}^{100000} \frac{1}{k}", r"\prod_{k=1}^{2000}\cos\frac{k\pi}{2001}", "99999999999^{99999999}", "10^{10^{10}}", "2^{2^{100}}", "1000000!",
    "(((10!)!)!)!",  r"\sqrt{" * 150 + "2" + "}" * 150, "9^9^9^9", "(10!)!",
]  # fmt: skip
ORDINARY = [
    r"\frac{1}{500!}", "2^{100}", r"2^{2^{10}}", r"\binom{52}{5}", r"\sum_{k=1}^{100} k^2", r"(x+1)^{10}", r"e^{x^2}", r"x^{2^n}", "10!", r"3^{-40}",
    r"\frac{7^{30}+1}{7^{60}}", r"\left(\left(\frac{1}{2}\right)^2\right)^3", r"10^{-20}", "2^{1000}", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}",
]  # fmt: skip


@pytest.mark.parametrize("answer", BOMBS, ids=range(len(BOMBS)))
def test_an_answer_that_is_too_costly_is_refused_with_a_reason(answer: str) -> None:
    verdict = check(answer, "3")
    assert not verdict.right
    assert verdict.refused


def test_no_ordinary_answer_and_no_gold_is_refused() -> None:
    golds = [str(problem.answer) for problem in load("math-500").problems]
    assert [text for text in [*ORDINARY, *golds] if refusal_reason(normal(text))] == []


@pytest.mark.slow
@pytest.mark.long
def test_an_answer_that_runs_out_of_time_is_wrong_and_does_not_affect_the_others(tmp_path: Path) -> None:
    benchmark = _benchmark(
        tmp_path,
        "math",
        {"id": "plane", "prompt": "p", "answer": "5x - 7y + 11z + 4 = 0"},
        {"id": "three", "prompt": "p", "answer": "3"},
    )
    items = [_item("plane", r"\sin(xyz)=\cos(x+y+z)"), _item("three", "3"), _item("three", "9^{9^{9}}")]
    graded = grade_items(benchmark, items, {}, 2)
    assert [(grade.verdict, grade.cause) for grade in graded.grades] == [
        ("wrong", "checker_timeout"),
        ("right", None),
        ("wrong", "too_costly"),
    ]
    assert graded.asked_again == 0


@pytest.mark.slow
def test_a_failed_check_is_a_grader_error_if_the_gold_fails_against_itself_too(tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, "math", {"id": "a", "prompt": "p", "answer": "11:00"})
    (grade,) = grade_items(benchmark, [_item("a", "12")], {}, 1).grades
    assert (grade.verdict, grade.cause) == ("grader_error", "checker_failed")
