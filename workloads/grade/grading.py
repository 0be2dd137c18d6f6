"""Items to grades: which checks are needed, and what their replies mean. The three steps of a pod meet here.

`fetch` reads outputs and writes orders; `execute` runs them where no gold is; `compare` reads the outputs again, checks
answers and outcomes against the golds, and makes grades. `grade_items` is the last one; the other two are `orders_for`
and `steps.execute_here`.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue

from workloads.api.grades import Cause, Grade, Verdict
from workloads.benchmarks.model import Benchmark, Problem
from workloads.grade.items import Item
from workloads.graders.checking.client import Check, CheckFailed, CodeCheck, MathCheck, Reply, check_all
from workloads.graders.code import grader
from workloads.graders.text import choice_of, is_exact
from workloads.sandbox.order import Lost, Order, Outcome

LONGEST_STORED_ANSWER = 20_000
LONGEST_MATH_ANSWER = 2_000
"""A longer answer in a box is wrong without being parsed: no gold is near it, and a loop must not cost a checker."""

Judged = tuple[Verdict, Cause | None, dict[str, JsonValue]]


def orders_for(benchmark: Benchmark, items: Iterable[Item]) -> list[Order]:
    """What the sandbox must run for these items; nothing unless the benchmark's grader is code."""
    if benchmark.grader != "code":
        return []
    return grader.orders(benchmark, _answers(items))


def work_of(benchmark: Benchmark, items: Iterable[Item]) -> dict[str, set[str]]:
    """By the key of each order, and of each check, the problems that it is about."""
    problems = {problem.id: problem for problem in benchmark.problems}
    found: dict[str, set[str]] = {}
    for problem_id, answer in _answers(items):
        for key in _keys(benchmark, problems[problem_id], answer):
            found.setdefault(key, set()).add(problem_id)
    return found


def _keys(benchmark: Benchmark, problem: Problem, answer: str) -> list[str]:
    if benchmark.grader == "math":
        return [_math_key(problem, answer)] if len(answer) <= LONGEST_MATH_ANSWER else []
    suites = problem.tests.suites if problem.tests else ()
    return [grader.order_key(problem.id, suite, answer) for suite in suites]


def _answers(items: Iterable[Item]) -> set[tuple[str, str]]:
    """Distinct (problem, answer) that are to be judged."""
    return {(i.problem, i.answer) for i in items if i.answer is not None and not i.failed}


@dataclass(frozen=True)
class Graded:
    """`asked_again`: checks that failed for no fault of an answer and were asked again alone."""

    grades: tuple[Grade, ...]
    asked_again: int = 0


def grade_items(
    benchmark: Benchmark,
    items: Sequence[Item],
    outcomes: Mapping[str, Outcome | Lost],
    workers: int,
    ended: Callable[[str], None] = lambda _: None,
) -> Graded:
    """A grade per item, in the order of items. Each distinct answer is checked once.

    `ended` is told each check's key, one of `work_of`, when it is over; what it raises ends the grading.
    """
    problems = {problem.id: problem for problem in benchmark.problems}
    answers = sorted(_answers(items))
    checked = check_all(_checks(benchmark, problems, answers, outcomes), workers, ended)
    sound = _sound_golds(benchmark, problems, answers, checked.replies, workers)
    judged = {
        (problem_id, answer): _judge(benchmark, problems[problem_id], answer, outcomes, checked.replies, sound)
        for problem_id, answer in answers
    }
    return Graded(tuple(_grade(item, judged) for item in items), checked.asked_again)


def _sound_golds(
    benchmark: Benchmark,
    problems: Mapping[str, Problem],
    answers: Sequence[tuple[str, str]],
    replies: Mapping[str, Reply],
    workers: int,
) -> frozenset[str]:
    """Of the golds of mathematics with a check that failed, those that equal themselves within the checker's limits."""
    if benchmark.grader != "math":
        return frozenset()
    failed = {
        problems[problem_id].answer or ""
        for problem_id, answer in answers
        if isinstance(replies.get(_math_key(problems[problem_id], answer)), CheckFailed)
    }
    own = check_all({gold: MathCheck(gold, gold) for gold in sorted(failed)}, workers).replies
    return frozenset(gold for gold, reply in own.items() if not isinstance(reply, CheckFailed) and reply["right"])


def _checks(
    benchmark: Benchmark,
    problems: Mapping[str, Problem],
    answers: Sequence[tuple[str, str]],
    outcomes: Mapping[str, Outcome | Lost],
) -> dict[str, Check]:
    checks: dict[str, Check] = {}
    for problem_id, answer in answers:
        problem = problems[problem_id]
        if benchmark.grader == "math" and len(answer) <= LONGEST_MATH_ANSWER:
            checks[_math_key(problem, answer)] = MathCheck(answer, problem.answer or "")
        for suite in problem.tests.suites if problem.tests else ():
            key = grader.order_key(problem_id, suite, answer)
            if isinstance(outcomes.get(key), Outcome):
                checks[key] = CodeCheck(suite, partial(_outcome, outcomes, key))
    return checks


def _outcome(outcomes: Mapping[str, Outcome | Lost], key: str) -> Outcome:
    outcome = outcomes[key]
    assert isinstance(outcome, Outcome)
    return outcome


def _math_key(problem: Problem, answer: str) -> str:
    """The verdict depends on the two texts only: problems with one gold share it."""
    return json.dumps([problem.answer, answer])


def _judge(
    benchmark: Benchmark,
    problem: Problem,
    answer: str,
    outcomes: Mapping[str, Outcome | Lost],
    replies: Mapping[str, Reply],
    sound: Collection[str],
) -> Judged:
    """`sound`: golds that are known to equal themselves. What fails beside one of them is the answer's doing: wrong."""
    if benchmark.grader == "code":
        assert problem.tests is not None
        return grader.verdict(problem.id, problem.tests, answer, outcomes, replies)
    gold = problem.answer or ""
    match benchmark.grader:
        case "exact":
            return _compared(is_exact(answer, gold), {"gold": gold})
        case "choice":
            letter, right = choice_of(answer, problem.choices), choice_of(gold, problem.choices)
            if letter is None:
                return "wrong", "not_a_choice", {"gold": gold}
            return _compared(letter == right, {"choice": letter, "gold": right})
    if len(answer) > LONGEST_MATH_ANSWER:
        return "wrong", "different_answer", {"gold": gold, "detail": f"longer than {LONGEST_MATH_ANSWER} characters"}
    reply = replies[_math_key(problem, answer)]
    if isinstance(reply, CheckFailed):
        verdict: Verdict = "wrong" if reply.cause != "checker_lost" and gold in sound else "grader_error"
        return verdict, reply.cause, {"gold": gold, "detail": reply.detail, "tries": reply.tries}
    evidence: dict[str, JsonValue] = {"parsed": reply["parsed"], "gold": gold, "goldParsed": reply["gold"]}
    if reply["refused"]:
        return "wrong", "too_costly", {**evidence, "detail": reply["refused"]}
    return _compared(reply["right"], evidence | ({"goldIsText": True} if reply["gold_is_text"] else {}))


def _compared(right: bool, evidence: dict[str, JsonValue]) -> Judged:
    return ("right", None, evidence) if right else ("wrong", "different_answer", evidence)


def _grade(item: Item, judged: Mapping[tuple[str, str], Judged]) -> Grade:
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
