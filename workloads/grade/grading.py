"""From items to grades: the needed checks, and the grades from their replies. The three steps of a pod use it.

`fetch` reads outputs and writes orders; `execute` runs them without access to golds; `compare` reads the outputs again,
compares answers and outcomes with the golds, and makes grades. `grade_items` is the last one; the other two are
`orders_for` and `steps.execute_here`. `workloads.graders` has the code of each grader.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from workloads.api.grades import Cause, Grade, Verdict
from workloads.benchmarks.model import Benchmark, Problem
from workloads.grade.items import Item
from workloads.graders.base import Findings, Grader, Judgement
from workloads.graders.checking.client import Check, CheckFailed, Reply, check_all
from workloads.graders.registry import GRADERS
from workloads.sandbox.order import Lost, Order, Outcome

LONGEST_STORED_ANSWER = 20_000


def orders_for(benchmark: Benchmark, items: Iterable[Item]) -> list[Order]:
    """Returns the programs that the sandbox must run for these items; none unless the benchmark's grader runs
    programs.
    """
    return GRADERS.require(benchmark.grader).orders(benchmark, _answers(items))


def work_of(benchmark: Benchmark, items: Iterable[Item]) -> dict[str, set[str]]:
    """Returns by the key of each order and check the ids of its problems."""
    grader = GRADERS.require(benchmark.grader)
    problems = {problem.id: problem for problem in benchmark.problems}
    found: dict[str, set[str]] = {}
    for problem_id, answer in _answers(items):
        for key in grader.keys(problems[problem_id], answer):
            found.setdefault(key, set()).add(problem_id)
    return found


def _answers(items: Iterable[Item]) -> set[tuple[str, str]]:
    """Returns distinct (problem, answer) pairs to grade."""
    return {(i.problem, i.answer) for i in items if i.answer is not None and not i.failed}


@dataclass(frozen=True)
class Graded:
    """`asked_again`: checks that failed for a reason outside of the answer and were repeated alone."""

    grades: tuple[Grade, ...]
    asked_again: int = 0


def grade_items(
    benchmark: Benchmark,
    items: Sequence[Item],
    outcomes: Mapping[str, Outcome | Lost],
    workers: int,
    ended: Callable[[str], None] = lambda _: None,
) -> Graded:
    """Returns a grade per item, in the order of items. Each distinct answer is checked once.

    `ended` gets each check's key (one of `work_of`) when it has ended. An exception from it stops the grading.
    """
    grader = GRADERS.require(benchmark.grader)
    problems = {problem.id: problem for problem in benchmark.problems}
    answers = sorted(_answers(items))
    checked = check_all(_checks(grader, problems, answers, outcomes), workers, ended)
    sound = _sound_golds(grader, problems, answers, checked.replies, workers)
    findings = Findings(outcomes, checked.replies, sound)
    judged = {
        (problem_id, answer): grader.verdict(problems[problem_id], answer, findings) for problem_id, answer in answers
    }
    return Graded(tuple(_grade(item, judged) for item in items), checked.asked_again)


def _sound_golds(
    grader: Grader,
    problems: Mapping[str, Problem],
    answers: Sequence[tuple[str, str]],
    replies: Mapping[str, Reply],
    workers: int,
) -> frozenset[str]:
    """Returns the problems with a failed check whose gold equals itself within the checker's limits."""
    failed = {
        problem_id
        for problem_id, answer in answers
        if any(isinstance(replies.get(key), CheckFailed) for key in grader.keys(problems[problem_id], answer))
    }
    asked = {problem_id: grader.gold_check(problems[problem_id]) for problem_id in sorted(failed)}
    checks = {check.to_json(): check for check in asked.values() if check is not None}
    if not checks:
        return frozenset()
    own = check_all(checks, workers).replies
    right = {key for key, reply in own.items() if not isinstance(reply, CheckFailed) and reply["right"]}
    return frozenset(name for name, check in asked.items() if check is not None and check.to_json() in right)


def _checks(
    grader: Grader,
    problems: Mapping[str, Problem],
    answers: Sequence[tuple[str, str]],
    outcomes: Mapping[str, Outcome | Lost],
) -> dict[str, Check]:
    checks: dict[str, Check] = {}
    for problem_id, answer in answers:
        checks |= grader.checks(problems[problem_id], answer, outcomes)
    return checks


def _grade(item: Item, judged: Mapping[tuple[str, str], Judgement]) -> Grade:
    evidence: dict[str, JsonValue] = {}
    verdict: Verdict
    cause: Cause | None
    if item.failed:
        verdict, cause = "infra_error", "generation_failed"
    elif item.answer is None:
        verdict, cause = "no_answer", "incomplete"
    else:
        verdict, cause, evidence = judged[item.problem, item.answer]
    return Grade(
        problem=item.problem,
        index=item.index,
        budget_tokens=item.budget_tokens,
        tokens=item.tokens,
        ended=item.ended,
        completed=item.completed,
        incomplete=item.incomplete,
        answer=None if item.answer is None else item.answer[:LONGEST_STORED_ANSWER],
        verdict=verdict,
        cause=cause,
        evidence=evidence,
    )
