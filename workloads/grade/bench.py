"""`bench test`: a benchmark's golds must grade right before a GPU is booked."""

import re
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
from workloads.graders.extraction.boxed import boxes
from workloads.sandbox.pool import Unsupported as Unsupported

_TIME = re.compile(r"\d{1,4}:\d{1,4}(?::\d{2})?(?:\s?[apAP]\.?[mM]\.?)?")


@dataclass(frozen=True)
class GoldReport:
    """`wrong`: grades of golds and references that are not right. `untested`: code problems without a solution.

    `warnings`: a sentence for each gold of mathematics that equal answers are not found equal to.
    """

    tested: int
    wrong: tuple[Grade, ...]
    untested: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def grade_golds(benchmark: Benchmark, workers: int) -> GoldReport:
    """Grades every gold answer, every boxed answer of a reference solution, and every reference program, as outputs."""
    items: list[Item] = []
    untested: list[str] = []
    for problem in benchmark.problems:
        answers = [problem.answer] if problem.answer is not None else []
        if benchmark.grader == "code":
            answers = [problem.reference_solution] if problem.reference_solution else []
        elif benchmark.grader == "math" and problem.reference_solution:
            boxed = boxes(problem.reference_solution).answer
            answers += [boxed] if boxed and boxed not in answers else []
        if not answers:
            untested.append(problem.id)
        items += [_as_output(problem.id, index, answer) for index, answer in enumerate(answers)]
    grades = grade_here(benchmark, items, workers).grades
    wrong = tuple(grade for grade in grades if grade.verdict != "right")
    return GoldReport(len(grades), wrong, tuple(untested), tuple(_warnings(benchmark, grades)))


def _warnings(benchmark: Benchmark, grades: Sequence[Grade]) -> Iterator[str]:
    if benchmark.grader != "math":
        return
    texts = {grade.problem for grade in grades if grade.evidence.get("goldIsText")}
    for problem in benchmark.problems:
        gold = (problem.answer or "").strip()
        if _TIME.fullmatch(gold):
            yield f"{problem.id}: mathematics reads the time or ratio {gold} as a division; use grader: exact"
        elif problem.id in texts:
            yield (
                f"{problem.id}: no value can be read in the gold {gold[:80]}, so that only the same text is right; "
                "write it in other LaTeX, or use grader: exact"
            )


def grade_here(benchmark: Benchmark, items: Sequence[Item], workers: int) -> Graded:
    """All that the grading program does with items, on this machine. Raises Unsupported where there is no sandbox."""
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
