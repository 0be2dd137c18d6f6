"""`bench test`: checks that a benchmark's golds are graded right, before a GPU is booked."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from workloads.api.grades import Grade
from workloads.benchmarks.model import Benchmark
from workloads.grade.grading import Graded, grade_items, orders_for
from workloads.grade.items import Item
from workloads.grade.steps import execute_here
from workloads.graders.base import Grader
from workloads.graders.registry import GRADERS
from workloads.sandbox.pool import Unsupported as Unsupported


@dataclass(frozen=True)
class GoldReport:
    """`wrong`: grades of golds and references that are not right. `untested`: code problems without a solution.

    `warnings`: a sentence for each gold that may not equal other forms of the right answer.
    """

    tested: int
    wrong: tuple[Grade, ...]
    untested: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def grade_golds(benchmark: Benchmark, workers: int) -> GoldReport:
    """Grades answers that must be right as outputs: golds, answers of reference solutions, and programs."""
    grader = GRADERS.require(benchmark.grader)
    golds = {problem.id: grader.golds(problem) for problem in benchmark.problems}
    items = [
        _as_output(problem_id, index, answer)
        for problem_id, answers in golds.items()
        for index, answer in enumerate(answers)
    ]
    grades = grade_here(benchmark, items, workers).grades
    wrong = tuple(grade for grade in grades if grade.verdict != "right")
    untested = tuple(problem_id for problem_id, answers in golds.items() if not answers)
    return GoldReport(len(grades), wrong, untested, tuple(_warnings(grader, benchmark, grades)))


def _warnings(grader: Grader, benchmark: Benchmark, grades: Sequence[Grade]) -> Iterator[str]:
    by_problem: dict[str, list[Grade]] = {}
    for grade in grades:
        by_problem.setdefault(grade.problem, []).append(grade)
    for problem in benchmark.problems:
        warning = grader.gold_warning(problem, by_problem.get(problem.id, []))
        if warning is not None:
            yield warning


def grade_here(benchmark: Benchmark, items: Sequence[Item], workers: int) -> Graded:
    """Runs the whole grading of items on this machine. Raises Unsupported if there is no sandbox."""
    with tempfile.TemporaryDirectory(prefix="potstill-grade-") as folder:
        executed = execute_here(orders_for(benchmark, items), workers, Path(folder), allow_unsandboxed=False)
        with closing(executed.outcomes) as outcomes:
            return grade_items(benchmark, items, outcomes, workers)


def _as_output(problem_id: str, index: int, answer: str) -> Item:
    return Item(
        problem=problem_id,
        index=index,
        budget_tokens=1,
        tokens=1,
        ended=True,
        failed=False,
        completed=True,
        answer=answer,
        incomplete=None,
    )
