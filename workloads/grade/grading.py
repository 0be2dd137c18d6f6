"""Items to grades: which checks are needed, and what their replies mean. The three steps of a pod meet here.

`fetch` reads outputs and writes orders; `execute` runs them where no gold is; `compare` reads the outputs again, checks
answers and outcomes against the golds, and makes grades. `grade_items` is the last one; the other two are `code.orders`
and `sandbox.pool.run_all`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic import JsonValue

from workloads.benchmarks.model import Benchmark, Problem
from workloads.contract.grades import COMPARED, Cause, Grade, Verdict
from workloads.contract.records import BudgetCounts
from workloads.grade import code
from workloads.grade.checkers import CheckFailed, CodeCheck, MathCheck, Reply, check_all
from workloads.grade.reading import Item
from workloads.grade.sandbox.order import Order, Outcome
from workloads.grade.sandbox.pool import Lost, run_all
from workloads.grade.texts import choice_of, is_exact

LONGEST_STORED_ANSWER = 20_000
LONGEST_MATH_ANSWER = 2_000
"""A longer answer in a box is wrong without being parsed: no gold is near it, and a loop must not cost a checker."""

Judged = tuple[Verdict, Cause | None, dict[str, JsonValue]]


def orders_for(benchmark: Benchmark, items: Iterable[Item]) -> list[Order]:
    """What the sandbox must run for these items; nothing unless the benchmark's grader is code."""
    if benchmark.grader != "code":
        return []
    return code.orders(benchmark, _answers(items))


def work_of(benchmark: Benchmark, items: Iterable[Item]) -> dict[str, str]:
    """By the key of each order, and of each check, the problem that it is about."""
    answers = _answers(items)
    if benchmark.grader == "math":
        return {_math_key(*answer): answer[0] for answer in answers if len(answer[1]) <= LONGEST_MATH_ANSWER}
    suites = {problem.id: problem.tests.suites for problem in benchmark.problems if problem.tests}
    return {code.order_key(id_, suite, answer): id_ for id_, answer in answers for suite in suites.get(id_, ())}


def _answers(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Distinct (problem, answer) that are to be judged."""
    return sorted({(i.problem, i.answer) for i in items if i.answer is not None and not i.failed})


def execute(orders: Sequence[Order], workers: int) -> dict[str, Outcome | Lost]:
    """Outcomes by key."""
    return {outcome.key: outcome for outcome in run_all(orders, workers)}


def grade_items(
    benchmark: Benchmark,
    items: Sequence[Item],
    outcomes: Mapping[str, Outcome | Lost],
    workers: int,
    ended: Callable[[str], None] = lambda _: None,
) -> list[Grade]:
    """A grade per item, in the order of items. Each distinct (problem, answer) is checked once.

    `ended` is told each check's key, one of `work_of`, when it is over; what it raises ends the grading.
    """
    problems = {problem.id: problem for problem in benchmark.problems}
    answers = _answers(items)
    checks = _checks(benchmark, problems, answers, outcomes)
    replies = check_all(checks, workers, ended)
    judged = {
        (problem_id, answer): _judge(benchmark, problems[problem_id], answer, outcomes, replies)
        for problem_id, answer in answers
    }
    return [_grade(item, judged) for item in items]


def _checks(
    benchmark: Benchmark,
    problems: Mapping[str, Problem],
    answers: Sequence[tuple[str, str]],
    outcomes: Mapping[str, Outcome | Lost],
) -> dict[str, MathCheck | CodeCheck]:
    checks: dict[str, MathCheck | CodeCheck] = {}
    for problem_id, answer in answers:
        problem = problems[problem_id]
        if benchmark.grader == "math" and len(answer) <= LONGEST_MATH_ANSWER:
            checks[_math_key(problem_id, answer)] = MathCheck(answer, problem.answer or "")
        for suite in problem.tests.suites if problem.tests else ():
            key = code.order_key(problem_id, suite, answer)
            outcome = outcomes.get(key)
            if isinstance(outcome, Outcome):
                checks[key] = CodeCheck(suite, outcome)
    return checks


def _math_key(problem_id: str, answer: str) -> str:
    return f"{problem_id}\n{answer}"


def _judge(
    benchmark: Benchmark,
    problem: Problem,
    answer: str,
    outcomes: Mapping[str, Outcome | Lost],
    replies: Mapping[str, Reply],
) -> Judged:
    if benchmark.grader == "code":
        assert problem.tests is not None
        return code.verdict(problem.id, problem.tests, answer, outcomes, replies)
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
    reply = replies[_math_key(problem.id, answer)]
    if isinstance(reply, CheckFailed):
        return "grader_error", reply.cause, {"gold": gold, "detail": reply.detail}
    return _compared(reply["right"], {"parsed": reply["parsed"], "gold": gold, "goldParsed": reply["gold"]})


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


def counts(grades: Iterable[Grade]) -> tuple[BudgetCounts, ...]:
    """Per budget, ascending. `causes`: why not completed and why not right, each by its name."""
    by_budget: dict[int, list[Grade]] = {}
    for grade in grades:
        by_budget.setdefault(grade.budget_tokens, []).append(grade)
    return tuple(_counted(budget, found) for budget, found in sorted(by_budget.items()))


def _counted(budget: int, grades: list[Grade]) -> BudgetCounts:
    compared = [grade for grade in grades if grade.verdict in COMPARED]
    verdicts = Counter(grade.verdict for grade in compared)
    causes = Counter[str](grade.incomplete for grade in compared if grade.incomplete)
    causes.update(grade.cause for grade in grades if grade.cause and grade.cause != "incomplete")
    return BudgetCounts(
        budget=budget,
        outputs=len(grades),
        completed=sum(grade.completed for grade in compared),
        right=verdicts["right"],
        right_and_completed=sum(grade.completed and grade.verdict == "right" for grade in compared),
        wrong=verdicts["wrong"],
        no_answer=verdicts["no_answer"],
        errors=len(grades) - len(compared),
        causes=dict(sorted(causes.items())),
    )
