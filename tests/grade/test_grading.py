"""From items to grades, and from grades to counts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from workloads.api.grade_counts import counts
from workloads.benchmarks.load import load
from workloads.benchmarks.model import Benchmark
from workloads.grade.bench import grade_golds
from workloads.grade.grading import grade_items, orders_for
from workloads.grade.items import Item
from workloads.grade.steps import read_outcomes
from workloads.graders.code.grader import order_key
from workloads.sandbox.order import Lost, Outcome
from workloads.sandbox.pool import run_all


def _benchmark(tmp_path: Path, grader: str, *rows: Mapping[str, object]) -> Benchmark:
    path = tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(path, grader)


def _item(problem: str, answer: str | None, *, completed: bool = True, failed: bool = False, budget: int = 8) -> Item:
    reason = None if completed else "unclosed_think"
    return Item(problem, 0, budget, 5, True, failed, completed, answer, reason)  # type: ignore[arg-type]


def test_exact_and_choice(tmp_path: Path) -> None:
    exact = _benchmark(tmp_path, "exact", {"id": "a", "prompt": "p", "answer": "Oslo"})
    assert [g.verdict for g in grade_items(exact, [_item("a", "Oslo "), _item("a", "Rome")], {}, 1).grades] == [
        "right",
        "wrong",
    ]
    choice = _benchmark(tmp_path, "choice", {"id": "a", "prompt": "p", "answer": "B", "choices": ["x", "y"]})
    grades = grade_items(choice, [_item("a", "(b)"), _item("a", "A"), _item("a", "who knows")], {}, 1).grades
    assert [(g.verdict, g.cause) for g in grades] == [
        ("right", None),
        ("wrong", "different_answer"),
        ("wrong", "not_a_choice"),
    ]


def test_counts_keep_errors_apart_and_right_includes_the_uncompleted(tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, "exact", {"id": "a", "prompt": "p", "answer": "x"})
    items = [
        _item("a", "x"),
        _item("a", "x", completed=False),
        _item("a", "y"),
        _item("a", None, completed=False),
        _item("a", None, completed=False, failed=True),
        _item("a", "x", budget=4),
    ]
    short, whole = counts(grade_items(benchmark, items, {}, 1).grades)
    assert (short.budget, short.outputs, short.right) == (4, 1, 1)
    assert (whole.outputs, whole.completed, whole.right, whole.right_and_completed) == (5, 2, 2, 1)
    assert (whole.wrong, whole.no_answer, whole.errors) == (1, 1, 1)
    assert whole.causes == {"different_answer": 1, "generation_failed": 1, "unclosed_think": 2}


def test_a_program_that_the_sandbox_lost_is_not_a_wrong_answer(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(1) == 1"}
    benchmark = _benchmark(tmp_path, "code", row)
    item = _item("a", "def f(x): return x")
    (order,) = orders_for(benchmark, [item, item])
    (lost,) = grade_items(benchmark, [item], {order.key: Lost(order.key, "gone", 2)}, 1).grades
    (missing,) = grade_items(benchmark, [item], {}, 1).grades
    assert (lost.verdict, lost.cause) == ("infra_error", "sandbox_lost")
    assert lost.evidence == {"suites": {"tests": "sandbox_lost"}, "suite": "tests", "detail": "gone", "tries": 2}
    assert (missing.verdict, missing.cause) == ("infra_error", "not_executed")


def test_a_suite_that_is_failed_decides_whatever_became_of_the_other(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(1) == 1\nassert f(1)"}
    benchmark = _benchmark(tmp_path, "code", row)
    item = _item("a", "def f(x): return 2")
    stated = benchmark.problems[0].tests
    assert stated is not None
    suites = stated.suites
    tests, truths = (order_key("a", suite, str(item.answer)) for suite in suites)
    failed = Outcome(tests, "finished", ("2",), (0.0,), "", 0.0, 0.0)
    (grade,) = grade_items(benchmark, [item], {tests: failed, truths: Lost(truths, "gone")}, 1).grades
    assert (grade.verdict, grade.cause) == ("wrong", "failing_test")


def test_orders_hold_no_expected_value(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(1) == 'the expected value'"}
    benchmark = _benchmark(tmp_path, "code", row)
    (order,) = orders_for(benchmark, [_item("a", "def f(x): return x")])
    assert "the expected value" not in order.to_json()


@pytest.mark.slow
def test_a_math_answer_longer_than_any_gold_is_wrong_without_being_parsed(tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, "math", {"id": "a", "prompt": "p", "answer": "7"})
    (grade,) = grade_items(benchmark, [_item("a", "9" * 1_000_000)], {}, 1).grades
    assert (grade.verdict, grade.cause) == ("wrong", "different_answer")


@pytest.mark.slow
def test_golds_that_do_not_grade_right_are_found_before_anything_is_generated(tmp_path: Path) -> None:
    tests = [{"args": [1], "expected": 2}]
    rows: list[dict[str, object]] = [
        {"id": "good", "prompt": "p", "entry_point": "f", "tests": tests, "solution": "def f(x): return x + 1"},
        {"id": "bad", "prompt": "p", "entry_point": "f", "tests": tests, "solution": "def f(x): return x"},
        {"id": "none", "prompt": "p", "entry_point": "f", "tests": tests},
    ]
    report = grade_golds(_benchmark(tmp_path, "code", *rows), workers=1)
    assert report.tested == 2
    assert [(g.problem, g.cause, g.evidence["returned"]) for g in report.wrong] == [("bad", "failing_test", "1")]
    assert report.untested == ("none",)


def test_an_output_that_no_file_can_hold_does_not_affect_the_others(tmp_path: Path) -> None:
    """Half a surrogate pair, which a program may put into its exception."""
    row = {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(1) == 1"}
    benchmark = _benchmark(tmp_path, "code", row)
    hostile = "def f(x):\n    raise ValueError('\\ud800 ha')"
    items = [_item("a", hostile), _item("a", "def f(x):\n    return x")]
    outcomes = {outcome.key: outcome for outcome in run_all(orders_for(benchmark, items), 1)}
    grades = grade_items(benchmark, items, outcomes, 1).grades
    assert [grade.verdict for grade in grades] == ["wrong", "right"]
    assert grades[0].evidence["detail"] == "ValueError: ? ha"
    assert all(grade.to_json() for grade in grades)


@pytest.mark.parametrize("what", ["a link", "a pipe"])
def test_layers_that_are_not_files_are_not_read(tmp_path: Path, what: str) -> None:
    (tmp_path / "outcomes").mkdir()
    (tmp_path / "outcomes" / "unit.jsonl").touch()
    if what == "a link":
        (tmp_path / "layers.json").symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "layers.json")
    assert read_outcomes(tmp_path, "unit", ()).layers == ()
