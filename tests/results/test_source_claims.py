"""The five claims of experiment distill-16-02, tested on its own table: some fail."""

import pytest

from tests.results.source_table import CODE, FAST, MATH, only_full, rows, series
from workloads.results.contrasts import Verdict
from workloads.results.findings import findings_of
from workloads.results.stats.difference import independent_difference
from workloads.results.stats.share import Share

RUNS = series()
FINDINGS = {finding.key: finding for finding in findings_of(tuple(RUNS.values()))}


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ("completion/math_4k", "undecidable"),
        ("degrades/math_4k/math-500", "undecidable"),
        ("limit-accuracy/math_2k/math_4k", "undecidable"),
        ("steadier/code_4k/math_4k", "mixed"),
        ("limit/code_2k/code_4k", "undecidable"),
        ("asymmetric/math_4k/code_4k", "supported"),
        ("completion-elsewhere/math_4k", "supported"),
    ],
    ids=[
        "1 completion, not reasoning",
        "2 math degrades",
        "2 the shorter limit is worse still",
        "3 code is steadier",
        "4 a shorter limit completes",
        "5 asymmetry",
        "5 through completion",
    ],
)
def test_each_claim_of_the_source_gets_the_verdict_that_its_table_allows(key: str, verdict: Verdict) -> None:
    finding = FINDINGS[key]
    assert finding.verdict == verdict, [(c.question, c.evidence, c.verdict) for c in finding.contrasts]


def test_stability_is_mixed_because_the_two_benchmarks_disagree() -> None:
    by_question = {c.question: c.verdict for c in FINDINGS["steadier/code_4k/math_4k"].contrasts}
    assert by_question[f"{MATH}, completed: fewer points between its checkpoints"] == "contradicted"
    assert by_question[f"{CODE}, completed: fewer points between its checkpoints"] == "supported"


@pytest.mark.parametrize("key", ["limit/code_2k/code_4k", "limit-accuracy/code_2k/code_4k"])
def test_counts_at_unequal_budgets_decide_nothing_about_the_limit(key: str) -> None:
    contrasts = FINDINGS[key].contrasts
    assert {c.question.split()[0].strip(",") for c in contrasts} == {MATH, CODE}
    assert all(c.p is None and "at 2,048 tokens and Code 4K at 4,096" in c.evidence for c in contrasts)


def test_the_largest_fall_of_the_table_is_found() -> None:
    """Math 4K on MBPP+: completion falls from 60 to 32 percent, on a benchmark that it was not trained for."""
    finding = FINDINGS["degrades/math_4k/mbpp-plus"]
    assert finding.verdict == "supported"
    assert [c.verdict for c in finding.contrasts if c.question.startswith("completed")] == ["supported"] * 2


def test_unfinished_answers_make_the_gap_but_counts_cannot_clear_reasoning() -> None:
    finding = FINDINGS["completion/math_4k"]
    by_question = {contrast.question: contrast for contrast in finding.contrasts}
    split = [c for question, c in by_question.items() if "more of the gap is unfinished" in question]
    both = [c for question, c in by_question.items() if "both completed" in question]
    assert {c.verdict for c in split} == {"supported"}
    assert {c.verdict for c in both} == {"undecidable"}


def test_from_73_to_67_at_100_problems_is_not_evidence_and_states_how_many_would_be() -> None:
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
