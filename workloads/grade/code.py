"""Code answers: what the sandbox is ordered to run, and the verdict on what came back. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from workloads.benchmarks.model import Benchmark, CodeTests, Suite
from workloads.contract.grades import Cause, Verdict
from workloads.contract.model import canonical_json, sha256_of
from workloads.grade.checkers import CheckFailed, Reply
from workloads.grade.sandbox.order import Limits, Order, Outcome
from workloads.grade.sandbox.pool import Lost

SMALLEST_LIMIT_SECONDS, REFERENCE_FACTOR, LARGEST_TOTAL_SECONDS = 1.0, 4.0, 60.0
"""evalplus's rule, in CPU seconds: a test may take max(1, 4 x reference); a suite min(60, the sum of these) + 1."""


def limits_of(suite: Suite) -> Limits:
    per_test = tuple(max(SMALLEST_LIMIT_SECONDS, REFERENCE_FACTOR * s) for s in suite.reference_seconds)
    return Limits(cpu_seconds=per_test, total_cpu_seconds=min(LARGEST_TOTAL_SECONDS, sum(per_test)) + 1.0)


def order_key(problem_id: str, suite: Suite, program: str) -> str:
    """The same program on the same suite is run once."""
    return sha256_of(canonical_json([problem_id, suite.name, program]))


def orders(benchmark: Benchmark, answers: Iterable[tuple[str, str]]) -> list[Order]:
    """Orders for distinct (problem id, program), the longest first. They hold inputs and no expected value."""
    tests_of = {problem.id: problem.tests for problem in benchmark.problems}
    found: dict[str, tuple[float, Order]] = {}
    for problem_id, program in answers:
        tests = tests_of[problem_id]
        assert tests is not None
        for suite in tests.suites:
            key = order_key(problem_id, suite, program)
            order = Order(key, program, tests.entry_point, suite.arguments, limits_of(suite))
            found[key] = (sum(suite.reference_seconds), order)
    return [order for _, order in sorted(found.values(), key=lambda pair: (-pair[0], pair[1].key))]


def verdict(
    problem_id: str,
    tests: CodeTests,
    program: str,
    outcomes: Mapping[str, Outcome | Lost],
    replies: Mapping[str, Reply],
) -> tuple[Verdict, Cause | None, dict[str, JsonValue]]:
    """(verdict, cause, evidence): right when every suite is passed. Evidence: a status per suite, the first failure.

    A comparison that fails is the candidate's doing (the expected values are known to compare), hence wrong.
    """
    statuses: dict[str, JsonValue] = {}
    first: tuple[Verdict, Cause, dict[str, JsonValue]] | None = None
    for suite in tests.suites:
        key = order_key(problem_id, suite, program)
        outcome, reply = outcomes.get(key), replies.get(key)
        if not isinstance(outcome, Outcome):
            lost: Cause = "sandbox_lost" if isinstance(outcome, Lost) else "not_executed"
            found: tuple[Verdict, Cause, dict[str, JsonValue]] = ("infra_error", lost, {"suite": suite.name})
        elif isinstance(reply, CheckFailed) or reply is None:
            found = ("wrong", "unreadable_output", {"suite": suite.name, "detail": reply.detail if reply else ""})
        elif reply["passed"]:
            statuses[suite.name] = "pass"
            continue
        else:
            found = ("wrong", reply["cause"], {"suite": suite.name, **_shown(reply)})
        statuses[suite.name] = found[1]
        if first is None or (found[0] == "infra_error" and first[0] != "infra_error"):
            first = found
    if first is None:
        return "right", None, {"suites": statuses}
    return first[0], first[1], {"suites": statuses, **first[2]}


def _shown(reply: dict[str, Any]) -> dict[str, JsonValue]:
    names = ("failing", "arguments", "expected", "returned", "detail")
    return {name: reply[name] for name in names if reply[name] not in (None, "")}
