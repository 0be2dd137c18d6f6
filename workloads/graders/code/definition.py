"""The grader `code` for the registry: programs run in the sandbox, and their return values are compared."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from workloads.benchmarks.model import Benchmark, Problem, Suite
from workloads.graders.base import Findings, Grader, Judgement
from workloads.graders.checking.client import Check
from workloads.graders.code import grader
from workloads.graders.code.grader import CodeCheck
from workloads.sandbox.order import Lost, Order, Outcome, outcome_from


class CodeGrader(Grader):
    name = "code"
    completion = "fenced"
    base_instruction = "{problem}\n\nWrite the complete function in one ```python code block.\n\nSolution:\n"
    runs_programs = True

    def orders(self, benchmark: Benchmark, answers: Iterable[tuple[str, str]]) -> list[Order]:
        return grader.orders(benchmark, answers)

    def keys(self, problem: Problem, answer: str) -> list[str]:
        return [grader.order_key(problem.id, suite, answer) for suite in _suites(problem)]

    def checks(self, problem: Problem, answer: str, outcomes: Mapping[str, Outcome | Lost]) -> dict[str, Check]:
        """Returns checks for the programs that were executed."""
        found: dict[str, Check] = {}
        for suite in _suites(problem):
            key = grader.order_key(problem.id, suite, answer)
            if isinstance(outcomes.get(key), Outcome):
                found[key] = CodeCheck(self.name, suite, partial(_outcome, outcomes, key))
        return found

    def verdict(self, problem: Problem, answer: str, findings: Findings) -> Judgement:
        assert problem.tests is not None
        return grader.verdict(problem.id, problem.tests, answer, findings.outcomes, findings.replies)

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        from workloads.graders.code import oracles

        suite = request["suite"]
        tests = Suite(
            name=suite["name"],
            arguments=tuple(suite["arguments"]),
            expected=tuple(suite["expected"]),
            reference_seconds=tuple(suite["reference_seconds"]),
            tolerance=suite["tolerance"],
            oracle=suite["oracle"],
        )
        return asdict(oracles.judge(tests, outcome_from(request["outcome"])))

    def warm(self) -> None:
        from workloads.graders.code import oracles  # noqa: F401

    def golds(self, problem: Problem) -> list[str]:
        return [problem.reference_solution] if problem.reference_solution else []


def _suites(problem: Problem) -> tuple[Suite, ...]:
    return problem.tests.suites if problem.tests else ()


def _outcome(outcomes: Mapping[str, Outcome | Lost], key: str) -> Outcome:
    """The outcome is read only when it is needed."""
    outcome = outcomes[key]
    assert isinstance(outcome, Outcome)
    return outcome


CODE = CodeGrader()
