"""A manifest's verdicts belong to its problems, one per output; any other manifest is refused."""

from typing import Any

import pytest

from tests.results.made_manifest import BUDGET, counts, evaluation, manifest, sampled
from workloads.api.manifest import BudgetVerdicts
from workloads.api.units import Sampling
from workloads.benchmarks.load import load
from workloads.benchmarks.model import BenchmarkError
from workloads.results.tables import row_of


@pytest.mark.parametrize("codes", ["RRW", "RRWWW"])
def test_verdicts_that_are_not_one_per_output_are_refused(codes: str) -> None:
    budgets = (BudgetVerdicts(counts=counts(BUDGET, codes), verdicts=codes),)
    with pytest.raises(ValueError, match=f"{len(codes)} verdicts at 4,096 tokens, but 4 problems with 1 outputs each"):
        evaluation("base", "RRWW", budgets=budgets)


@pytest.mark.parametrize("field", [{"tokens": (1,)}, {"finish": "s"}])
def test_tokens_and_finish_are_one_per_output(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="4 problems with 1 outputs each need 4"):
        evaluation("base", "RRWW", **field)


def test_a_problem_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="problem 'a' is listed more than once"):
        evaluation("base", "RRWW", problems=("a", "a", "b", "c"))


def test_a_benchmarks_subset_names_each_problem_once() -> None:
    ids = load("math-500").ids
    with pytest.raises(BenchmarkError, match="is listed more than once"):
        load("math-500").select((ids[0], ids[1], ids[0]))
    assert load("math-500").select((ids[1], ids[0])) == (ids[1], ids[0])


def test_a_table_has_intervals_by_problem() -> None:
    """If all outputs of each problem are right or all are wrong, 8 outputs have no more information than one."""
    found = manifest(sampled("base", ["R" * 8] * 70 + ["W" * 8] * 30), sampling=Sampling(n=8, temperature=0.7))
    single = manifest(evaluation("base", "R" * 70 + "W" * 30))
    rows = [row_of(made, made.models[0], "math-500", BUDGET) for made in (found, single)]
    several, one = ((row.accuracy, row.strict, row.completed) for row in rows if row is not None)
    assert (several[0].k, several[0].n, several[0].problems) == (560, 800, 100)
    assert several[0].interval == pytest.approx(one[0].interval, abs=0.005)
    assert several[2].interval == pytest.approx(one[2].interval, abs=0.005)
