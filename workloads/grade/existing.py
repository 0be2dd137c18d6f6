"""Grades existing outputs like an evaluation and counts the grades, for `potstill grade`."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from workloads.api.grades import COMPARED, Grade
from workloads.api.units import GRADER_VERSION
from workloads.benchmarks.model import Benchmark
from workloads.grade.bench import Unsupported as Unsupported
from workloads.grade.bench import grade_here
from workloads.grade.outputs_file import OutputRow
from workloads.graders.registry import added_version
from workloads.results.stats.share import wilson_interval


@dataclass(frozen=True)
class GradedRow:
    row: OutputRow
    grade: Grade

    @property
    def disagrees(self) -> bool:
        """Returns whether the row's own `right` differs from the verdict. False without a verdict."""
        stated, verdict = self.row.right, self.grade.verdict
        return stated is not None and verdict in COMPARED and stated != (verdict == "right")

    def to_json(self) -> dict[str, Any]:
        """Returns a line of GRADES.jsonl."""
        grade, row = self.grade, self.row
        found: dict[str, Any] = {"line": row.line}
        found |= {"problem": grade.problem, "index": grade.index} if row.gold is None else {"gold": row.gold}
        found |= {
            "answer": grade.answer,
            "verdict": grade.verdict,
            "cause": grade.cause,
            "completed": grade.completed,
            "incomplete": grade.incomplete,
            "evidence": grade.evidence,
        }
        return found if row.right is None else found | {"right": row.right, "disagrees": self.disagrees}


@dataclass(frozen=True)
class OutputShare:
    """k of n with a 95% interval, None if n is 0."""

    k: int
    n: int
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Returns text such as 73.0% (73/100, 63.6-80.7)."""
        if self.low is None or self.high is None:
            return "- (0/0)"
        return f"{self.k / self.n:.1%} ({self.k}/{self.n}, {self.low * 100:.1f}-{self.high * 100:.1f})"


@dataclass(frozen=True)
class Summary:
    """Counts of graded rows. `errors` are in no other count but `rows`; `causes`: why rows are not right, by name.

    `stated`: rows with both an own `right` and a verdict; `disagreements` by kind: `missed` (the row says right, the
    grade does not) and `let_pass` (the reverse); `groups`: disagreements and rows by the rows' `class`.
    """

    rows: int
    problems: int
    right: OutputShare
    completed: OutputShare
    right_and_completed: OutputShare
    wrong: int
    no_answer: int
    errors: int
    causes: Mapping[str, int]
    stated_right: int
    stated_wrong: int
    missed: int
    let_pass: int
    groups: Mapping[str, tuple[int, int]]

    @property
    def stated(self) -> int:
        return self.stated_right + self.stated_wrong


def grade_rows(benchmark: Benchmark, rows: Sequence[OutputRow], workers: int) -> tuple[GradedRow, ...]:
    """Returns a grade for each row, in order. Raises Unsupported for code if there is no sandbox."""
    graded = grade_here(benchmark, [row.item for row in rows], workers)
    return tuple(GradedRow(row, grade) for row, grade in zip(rows, graded.grades, strict=True))


def summarise(graded: Sequence[GradedRow]) -> Summary:
    compared = [one for one in graded if one.grade.verdict in COMPARED]
    verdicts = Counter(one.grade.verdict for one in graded)
    causes = Counter[str](one.grade.incomplete or "no_answer" for one in compared if one.grade.verdict == "no_answer")
    causes.update(one.grade.cause for one in graded if one.grade.cause and one.grade.verdict != "no_answer")
    stated = [one for one in compared if one.row.right is not None]
    totals = Counter(one.row.group for one in stated if one.row.group is not None)
    off = Counter(one.row.group for one in stated if one.row.group is not None and one.disagrees)
    return Summary(
        rows=len(graded),
        problems=len({one.grade.problem for one in graded}),
        right=_share((one.grade.problem, one.grade.verdict == "right") for one in compared),
        completed=_share((one.grade.problem, one.grade.completed) for one in compared),
        right_and_completed=_share(
            (one.grade.problem, one.grade.completed and one.grade.verdict == "right") for one in compared
        ),
        wrong=verdicts["wrong"],
        no_answer=verdicts["no_answer"],
        errors=len(graded) - len(compared),
        causes=dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
        stated_right=sum(one.row.right is True for one in stated),
        stated_wrong=sum(one.row.right is False for one in stated),
        missed=sum(one.disagrees and one.row.right is True for one in stated),
        let_pass=sum(one.disagrees and one.row.right is False for one in stated),
        groups={name: (off[name], totals[name]) for name in sorted(totals, key=lambda name: (-off[name], name))},
    )


def summary_json(summary: Summary, benchmark: Benchmark) -> dict[str, Any]:
    """Returns the content of --json."""

    def share(one: OutputShare) -> dict[str, Any]:
        return {"k": one.k, "n": one.n, "low": one.low, "high": one.high}

    return {
        "benchmark": benchmark.name,
        "grader": benchmark.grader,
        "graderVersion": added_version(benchmark.grader) or GRADER_VERSION,
        "rows": summary.rows,
        "problems": summary.problems,
        "right": share(summary.right),
        "completed": share(summary.completed),
        "rightAndCompleted": share(summary.right_and_completed),
        "wrong": summary.wrong,
        "noAnswer": summary.no_answer,
        "errors": summary.errors,
        "causes": dict(summary.causes),
        "stated": {
            "right": summary.stated_right,
            "wrong": summary.stated_wrong,
            "missed": summary.missed,
            "letPass": summary.let_pass,
            "classes": {name: {"disagreements": k, "rows": n} for name, (k, n) in summary.groups.items()},
        },
        "versions": {name: version(name) for name in ("math-verify", "sympy", "latex2sympy2_extended", "numpy")},
    }


def _share(outcomes: Iterable[tuple[str, bool]]) -> OutputShare:
    """Returns a share from (problem, yes) per output, with a Wilson 95% interval for the effective number of outputs.

    Outputs of one problem are correlated. The effective number is p(1 - p) / variance of p between problems (Korn and
    Graubard 1998), but at least the number of problems and at most the number of outputs. With one output a problem it
    is the number of outputs, and the interval is Wilson's.
    """
    found: dict[str, list[bool]] = {}
    for problem, yes in outcomes:
        found.setdefault(problem, []).append(yes)
    n = sum(map(len, found.values()))
    k = sum(map(sum, found.values()))
    if not n:
        return OutputShare(0, 0, None, None)
    size = _effective(found.values(), k / n, n)
    return OutputShare(k, n, *wilson_interval(k / n * size, size))


def _effective(problems: Iterable[list[bool]], p: float, n: int) -> float:
    clusters = list(problems)
    m = len(clusters)
    if m == n:
        return float(n)
    spread = sum((sum(cluster) - p * len(cluster)) ** 2 for cluster in clusters)
    if m < 2 or not math.isfinite(spread) or spread == 0.0 or p in (0.0, 1.0):
        return float(m)
    return min(float(n), p * (1 - p) * n * n * (m - 1) / (spread * m))
