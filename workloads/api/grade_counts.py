"""Counts grades. The grades marker and the manifest use the same function. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from workloads.api.grades import COMPARED, Grade
from workloads.api.records import BudgetCounts


def counts(grades: Iterable[Grade]) -> tuple[BudgetCounts, ...]:
    """Returns counts per budget, ascending. `causes`: why outputs are not completed or not right, by name."""
    by_budget: dict[int, list[Grade]] = {}
    for grade in grades:
        by_budget.setdefault(grade.budget_tokens, []).append(grade)
    return tuple(_counted(budget, found) for budget, found in sorted(by_budget.items()))


def _counted(budget: int, grades: Sequence[Grade]) -> BudgetCounts:
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


def differences(stated: Sequence[BudgetCounts], counted: Sequence[BudgetCounts]) -> list[str]:
    """Returns the differences of two sets of counts, each as a sentence.

    It does not compare causes, which are informative only.
    """
    if [one.budget for one in stated] != [one.budget for one in counted]:
        return [f"it states budgets {_budgets(stated)}, its grades are at {_budgets(counted)}"]
    return [
        f"at {ours.budget} tokens it states {name} {getattr(theirs, name)}, its grades give {getattr(ours, name)}"
        for theirs, ours in zip(stated, counted, strict=True)
        for name in ("outputs", "completed", "right", "right_and_completed", "wrong", "no_answer", "errors")
        if getattr(theirs, name) != getattr(ours, name)
    ]


def _budgets(counted: Sequence[BudgetCounts]) -> str:
    return ", ".join(str(one.budget) for one in counted) or "none"
