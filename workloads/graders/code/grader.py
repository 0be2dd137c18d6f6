"""Code answers: the orders for the sandbox, and the verdict from the outcomes. Pure."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import JsonValue

from workloads.api.grades import Cause, Verdict
from workloads.api.model import canonical_json, sha256_of
from workloads.benchmarks.model import Benchmark, CodeTests, Suite
from workloads.graders.checking.client import CheckFailed, Reply
from workloads.sandbox.order import Lost, Order, Outcome, SandboxLimits

SMALLEST_LIMIT_SECONDS, REFERENCE_FACTOR, LARGEST_TOTAL_SECONDS = 1.0, 4.0, 60.0
"""evalplus's rule, in CPU seconds: a test may use max(1, 4 x reference); a suite min(60, the sum of these) + 1."""

SMALLEST_OUTPUT_BYTES, OUTPUT_FACTOR = 1 << 20, 4
"""Values that are compared with the expected ones may be longer by this factor: a model cannot fill the disk."""


@dataclass(frozen=True)
class CodeCheck:
    """A check whether an outcome passes a suite.

    The outcome is read when needed, because all of them may be gigabytes.
    """

    grader: str
    suite: Suite
    outcome: Callable[[], Outcome]

    def to_json(self) -> str:
        return json.dumps({"kind": self.grader, "suite": asdict(self.suite), "outcome": asdict(self.outcome())})


def limits_of(suite: Suite) -> SandboxLimits:
    per_test = tuple(max(SMALLEST_LIMIT_SECONDS, REFERENCE_FACTOR * s) for s in suite.reference_seconds)
    limits = SandboxLimits(cpu_seconds=per_test, total_cpu_seconds=min(LARGEST_TOTAL_SECONDS, sum(per_test)) + 1.0)
    if suite.oracle != "equal":
        return limits
    return replace(limits, output_bytes=SMALLEST_OUTPUT_BYTES + OUTPUT_FACTOR * sum(map(len, suite.expected)))


def order_key(problem_id: str, suite: Suite, program: str) -> str:
    """Returns the key of a program on a suite: each is run once."""
    return sha256_of(canonical_json([problem_id, suite.name, program]))


def orders(benchmark: Benchmark, answers: Iterable[tuple[str, str]]) -> list[Order]:
    """Returns orders for distinct (problem id, program), the longest first.

    They contain inputs and no expected values.
    """
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


Judged = tuple[Verdict, Cause, dict[str, JsonValue]]


def verdict(
    problem_id: str,
    tests: CodeTests,
    program: str,
    outcomes: Mapping[str, Outcome | Lost],
    replies: Mapping[str, Reply],
) -> tuple[Verdict, Cause | None, dict[str, JsonValue]]:
    """Returns (verdict, cause, evidence): right if every suite is passed. Evidence: a status per suite, the first
    failure.

    One failed suite is enough for a verdict, whatever the result of others. If none failed and one has no result, it is
    an error.
    """
    statuses: dict[str, JsonValue] = {}
    failures: list[Judged] = []
    for suite in tests.suites:
        key = order_key(problem_id, suite, program)
        failure = _failure(suite, outcomes.get(key), replies.get(key))
        statuses[suite.name] = "pass" if failure is None else failure[1]
        if failure is not None:
            failures.append(failure)
    if not failures:
        return "right", None, {"suites": statuses}
    verdict, cause, evidence = next((f for f in failures if f[0] == "wrong"), failures[0])
    return verdict, cause, {"suites": statuses, **evidence}


def _failure(suite: Suite, outcome: Outcome | Lost | None, reply: Reply | None) -> Judged | None:
    """Returns the failure of a suite, or None. A comparison that takes too long, uses too much memory or raises counts
    as wrong, because the expected values are known to be comparable. If the process was killed externally, there is no
    verdict.
    """
    where: dict[str, JsonValue] = {"suite": suite.name}
    if outcome is None:
        return "infra_error", "not_executed", where
    if isinstance(outcome, Lost):
        return "infra_error", "sandbox_lost", {**where, "detail": outcome.reason, "tries": outcome.tries}
    assert reply is not None
    if isinstance(reply, CheckFailed):
        evidence = {**where, "detail": f"{reply.cause}: {reply.detail}", "tries": reply.tries}
        if reply.cause == "checker_lost":
            return "grader_error", reply.cause, evidence
        return "wrong", "unreadable_output", evidence
    return None if reply["passed"] else ("wrong", reply["cause"], {**where, **_shown(reply)})


def _shown(reply: dict[str, Any]) -> dict[str, JsonValue]:
    names = ("failing", "arguments", "expected", "returned", "detail")
    return {name: reply[name] for name in names if reply[name] not in (None, "")}
