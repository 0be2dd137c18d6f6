"""The five claims of experiment 16/02, put to its own table: not all survive."""

import pytest

from tests.results.source_table import CODE, FAST, MATH, only_full, rows, series
from workloads.results.contrasts import Verdict
from workloads.results.difference import independent_difference
from workloads.results.findings import (
    Finding,
    asymmetric,
    completion_not_reasoning,
    degrades,
    shorter_completes_more,
    steadier_than,
)
from workloads.results.statistics import Share

RUNS = series()


def claim_1() -> Finding | None:
    return completion_not_reasoning(RUNS["Math 4K"])


def claim_2() -> Finding | None:
    return degrades(RUNS["Math 4K"])


def claim_3() -> Finding | None:
    return steadier_than(RUNS["Code 4K"], RUNS["Math 4K"], MATH)


def claim_4() -> Finding | None:
    return shorter_completes_more(RUNS["Math 2K"], RUNS["Math 4K"])


def claim_5() -> Finding | None:
    return asymmetric(RUNS["Math 4K"], RUNS["Code 4K"])


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (claim_1, "undecidable"),
        (claim_2, "undecidable"),
        (claim_3, "contradicted"),
        (claim_4, "contradicted"),
        (claim_5, "supported"),
    ],
    ids=[
        "1 completion, not reasoning",
        "2 math degrades",
        "3 code is steadier",
        "4 a shorter limit completes",
        "5 asymmetry",
    ],
)
def test_each_claim_of_the_source_gets_the_verdict_that_its_table_allows(claim: object, verdict: Verdict) -> None:
    finding = claim()  # type: ignore[operator]
    assert finding is not None
    assert finding.verdict == verdict, [(c.question, c.evidence, c.verdict) for c in finding.contrasts]


def test_the_shorter_limit_is_no_help_to_code_that_the_table_can_show() -> None:
    finding = shorter_completes_more(RUNS["Code 2K"], RUNS["Code 4K"])
    assert finding is not None
    assert finding.verdict == "undecidable"
    assert finding.contrasts[0].needed is not None


def test_unfinished_answers_make_the_gap_but_counts_cannot_clear_reasoning() -> None:
    finding = claim_1()
    assert finding is not None
    by_question = {contrast.question: contrast for contrast in finding.contrasts}
    split = [c for question, c in by_question.items() if "more of the gap is unfinished" in question]
    both = [c for question, c in by_question.items() if "both completed" in question]
    assert {c.verdict for c in split} == {"supported"}
    assert {c.verdict for c in both} == {"undecidable"}


def test_from_73_to_67_at_100_problems_is_no_evidence_and_says_how_many_would_be() -> None:
    drop = independent_difference(Share(67, 100), Share(73, 100))
    assert drop.p == pytest.approx(0.35, abs=0.01)
    assert drop.needed is not None
    assert 800 < drop.needed < 1000


def test_at_code_4k_step_100_two_thirds_of_the_unfinished_outputs_are_right() -> None:
    first = RUNS["Code 4K"].figures[MATH][0]
    unfinished = first.accuracy.n - first.completed.k
    assert (first.accuracy.k - first.strict.k) / unfinished == pytest.approx(2 / 3, abs=0.04)


def test_code_2k_completes_less_after_its_best_checkpoint() -> None:
    best, after = RUNS["Code 2K"].figures[CODE][:2]
    assert (best.completed, after.completed) == (Share(83, FAST), Share(63, FAST))
    assert independent_difference(after.completed, best.completed).p < 0.01


def test_four_rows_of_each_table_fit_only_the_full_set() -> None:
    expected = [("Math 4K", 5000), ("Math 4K", 10000), ("Code 4K", 5000), ("Code 4K", 10000)]
    assert only_full(MATH) == expected
    assert only_full(CODE) == expected


def test_every_other_row_has_counts_that_print_as_it_does() -> None:
    assert [len(rows(name)) for name in (MATH, CODE)] == [19, 19]
    for run in RUNS.values():
        for figures in run.figures.values():
            assert all(f.strict.k <= min(f.accuracy.k, f.completed.k) for f in figures)
