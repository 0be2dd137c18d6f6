"""Math answers: equal ones are right, and an expression without end costs itself only."""

import pytest

from workloads.benchmarks import load
from workloads.grade.bench import grade_golds
from workloads.grade.checkers import CheckFailed, MathCheck, check_all

RIGHT = [
    (r"\frac12", r"\frac{1}{2}"), ("0.5", r"\frac{1}{2}"), (r"\dfrac{\sqrt{4}}{4}", r"\frac{1}{2}"), ("x=5", "5"),
    (r"12\text{ cm}", "12"), ("10\\%", "10"), ("1,234", "1234"), (r"\text{even}", r"\text{even}"),
    (r"\{2,1\}", r"\{1,2\}"), (r"(1,2)", r"\left( 1, 2 \right)"), (r"2\pi", r"\pi \cdot 2"), (r"90^\circ", "90"),
]  # fmt: skip
WRONG = [("2", "3"), ("(2,1)", "(1,2)"), (r"\text{odd}", r"\text{even}"), ("x", "5"), ("", "5"), (r"\frac{", "5")]
PATHOLOGICAL = ["9^{9^{9^{9^{9}}}}", "(((10!)!)!)!", "{" * 300 + "1" + "}" * 300, r"\sqrt{" * 150 + "2" + "}" * 150]


@pytest.mark.slow
def test_answers_are_compared_by_value_and_pathological_ones_lose_no_neighbour() -> None:
    checks = {f"right {a}": MathCheck(a, g) for a, g in RIGHT} | {f"wrong {a}": MathCheck(a, g) for a, g in WRONG}
    for number, answer in enumerate(PATHOLOGICAL):
        checks |= {f"bad {number}": MathCheck(answer, "5"), f"after {number}": MathCheck("5", "5")}
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
