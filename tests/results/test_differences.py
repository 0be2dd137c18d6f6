"""Paired and independent differences against published examples, and their required properties."""

import gc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    proportion_effectsize,
    proportions_ztest,
)

from workloads.results.contrasts import steadier
from workloads.results.scores import Score
from workloads.results.stats.bounded_mean import score_statistic, two_sided_p
from workloads.results.stats.difference import (
    holm,
    independent_difference,
    mid_p,
    paired_difference,
    problems_needed_independent,
    score_interval,
    score_z,
)
from workloads.results.stats.paired import Pairs, pair, score
from workloads.results.stats.power import detectable_difference, problems_needed
from workloads.results.stats.share import Share, wilson_interval


def test_the_score_interval_and_mid_p_agree_with_the_published_example() -> None:
    """Airway hyper-responsiveness: 1 and 7 discordant of 21 pairs (Fagerland, Lydersen and Laake 2014, tables 3 and 9)."""
    low, high = score_interval(1, 7, 21, 0.05)
    assert (low, high) == pytest.approx((-0.517, -0.026), abs=0.001)
    assert mid_p(1, 7) == pytest.approx(0.039, abs=0.0005)


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_interval_holds_the_estimate_and_turns_with_the_sides(first: int, second: int, same: int) -> None:
    n = max(1, first + second + same)
    low, high = score_interval(first, second, n, 0.05)
    assert low <= (first - second) / n <= high
    assert score_interval(second, first, n, 0.05) == pytest.approx((-high, -low), abs=1e-6)


@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(-899, 899).map(lambda thousandths: (thousandths + 0.5) / 1000)
)
def test_the_bounds_are_where_the_test_turns(first: int, second: int, difference: float) -> None:
    n = 80
    low, high = score_interval(first, second, n, 0.1)
    inside = low < difference < high
    assert inside == (abs(score_z(first, second, n, difference)) < 1.6448536)


def test_no_difference_seen_at_100_problems_still_allows_points() -> None:
    """This is why a gate at 5 points cannot pass on 100 problems with 10% discordance."""
    assert score_interval(5, 5, 100, 0.1)[1] > 0.05


def test_errors_leave_their_problem_out_of_the_pairs_and_are_counted() -> None:
    pairs = pair({"a": "R", "b": "e", "c": "n"}, {"a": "w", "b": "R", "c": "N", "d": "R"}, "completed")
    assert (pairs.first, pairs.second, pairs.left_out) == ((1.0, 0.0), (0.0, 1.0), 1)


@pytest.mark.parametrize(
    ("codes", "accuracy", "completed", "strict"), [("R", 1, 1, 1), ("r", 1, 0, 0), ("W", 0, 1, 0), ("n", 0, 0, 0)]
)
def test_metrics_tell_right_from_completed(codes: str, accuracy: int, completed: int, strict: int) -> None:
    assert [score(codes, metric) for metric in ("accuracy", "completed", "strict")] == [accuracy, completed, strict]


def test_several_outputs_per_problem_are_compared_by_problem() -> None:
    first = {str(i): "RRWW" for i in range(40)}
    second = {str(i): "RWWW" if i % 2 else "RRRW" for i in range(40)}
    found = paired_difference(pair(first, second, "accuracy"))
    assert found.low < 0 < found.high
    assert (found.n, found.method) == (40, "paired: score test by problem")


@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.3])
def test_the_problems_needed_and_the_detectable_difference_are_each_others_inverse(discordance: float) -> None:
    found = detectable_difference(500, discordance)
    assert found is not None
    assert problems_needed(found, discordance) in (500, 501)


def test_holm_as_in_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_holm_is_statsmodels_to_the_last_bit(p_values: list[float]) -> None:
    with patch.object(gc, "collect"):  # it does so each time, which takes a third of a second here
        expected = [float(p) for p in multipletests(p_values, method="holm")[1]]
    assert holm(p_values) == expected


def test_false_findings_are_no_more_than_nominal_when_nothing_differs() -> None:
    """2,000 comparisons of equal models, 100 problems, 10% discordance; mid-p stays near and under 5%."""
    rng = np.random.default_rng(16)
    discordant = rng.binomial(100, 0.1, 2000)
    found = [
        mid_p(int(only), int(all_ - only)) < 0.05
        for all_, only in zip(discordant, rng.binomial(discordant, 0.5), strict=True)
    ]
    assert np.mean(found) < 0.055


@pytest.mark.slow
@pytest.mark.parametrize("problems", [100, 378, 500])
def test_the_detectable_difference_is_found_as_often_as_stated(problems: int) -> None:
    """4,000 comparisons at the difference that is detected with a power of 80%, 10% discordance: with few problems it
    is found more often.
    """
    difference = detectable_difference(problems, 0.1)
    assert difference is not None
    rng = np.random.default_rng(16)
    discordant = rng.binomial(problems, 0.1, 4000)
    only_first = rng.binomial(discordant, (1 + difference / 0.1) / 2)
    found = [mid_p(int(first), int(all_ - first)) < 0.05 for first, all_ in zip(only_first, discordant, strict=True)]
    assert 0.77 < np.mean(found) < 0.88


@pytest.mark.parametrize(("problems", "outputs", "level"), [(40, 4, 0.05), (100, 4, 0.001)])
def test_the_detectable_difference_takes_several_outputs_and_the_level_into_account(
    problems: int, outputs: int, level: float
) -> None:
    """500 comparisons at the difference that is detected with 80% power; outputs differ by chance, alike on all
    problems.
    """
    difference = detectable_difference(problems, 0.3, level, outputs_per_problem=outputs)
    single = detectable_difference(problems, 0.3, level)
    assert difference is not None
    assert single is None or difference < single
    first = (1 + difference + (1 - 2 * 0.3 + difference**2) ** 0.5) / 2
    second = first - difference
    assert first + second - 2 * first * second == pytest.approx(0.3)
    rng = np.random.default_rng(16)
    values = rng.binomial(outputs, first, (500, problems)) - rng.binomial(outputs, second, (500, problems))
    found = [two_sided_p(score_statistic(row / outputs, -1, 1), problems, single=False) < level for row in values]
    assert 0.74 < np.mean(found) < 0.88


def test_equal_models_make_no_pair_differ() -> None:
    found = paired_difference(Pairs((1.0, 0.0), (1.0, 0.0), True, 0))
    assert (found.p, found.needed) == (1.0, None)


def test_one_problem_with_several_outputs_decides_nothing() -> None:
    found = paired_difference(Pairs((0.5,), (1.0,), False, 0))
    assert (found.low, found.high, found.p) == (-1.0, 1.0, 1.0)


@pytest.mark.parametrize(("first", "second"), [((1, 1), (3, 485)), ((0, 1), (590, 592))])
def test_problems_needed_are_known_for_extreme_counts(first: tuple[int, int], second: tuple[int, int]) -> None:
    needed = independent_difference(Share(*first), Share(*second)).needed
    assert needed is not None
    assert 1 <= needed < 10


def test_the_problems_needed_count_what_several_outputs_tell() -> None:
    """Every problem differs a little: the variance is small, although each problem has a difference."""
    rng = np.random.default_rng(1)
    first = tuple(float(x) for x in rng.binomial(16, 0.8, 100) / 16)
    second = tuple(float(x) for x in rng.binomial(16, 0.7, 100) / 16)
    needed = paired_difference(Pairs(first, second, False, 0)).needed
    assert needed is not None
    assert needed < 40


@pytest.mark.slow
def test_spans_that_differ_by_chance_only_are_rarely_called_different() -> None:
    """250 pairs of runs of four equal checkpoints, 100 problems: a span below the expected range of chance is not
    evidence.
    """
    rng = np.random.default_rng(19)
    p_values = []
    for right in rng.binomial(100, 0.7, (250, 8)).tolist():
        run = [Score("", None, "", 1, Share(k, 100), Share(k, 100), Share(k, 100)) for k in right]
        p_values.append(steadier("", tuple(run[:4]), tuple(run[4:]), "accuracy").p or 0.0)
    assert np.mean(np.array(p_values) < 0.05) < 0.05
    assert min(p_values) > 1e-4


@given(st.floats(0, 1), st.floats(1, 600), st.sampled_from([0.01, 0.05, 0.2]))
def test_wilsons_interval_is_statsmodels(share: float, n: float, alpha: float) -> None:
    wanted = proportion_confint(share * n, n, alpha=alpha, method="wilson")
    assert wilson_interval(share * n, n, alpha) == pytest.approx(wanted, abs=1e-12)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_an_independent_difference_is_statsmodels(first_n: int, second_n: int, data: st.DataObject) -> None:
    first, second = data.draw(st.integers(0, first_n)), data.draw(st.integers(0, second_n))
    found = independent_difference(Share(first, first_n), Share(second, second_n))
    wanted = confint_proportions_2indep(first, first_n, second, second_n, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)
    if first + second in (0, first_n + second_n):
        assert found.p == 1.0
    else:
        p = proportions_ztest([first, second], [first_n, second_n])[1]
        assert found.p == pytest.approx(p, abs=1e-12)
    effect = proportion_effectsize(first / first_n, second / second_n)
    needed = problems_needed_independent(first / first_n, second / second_n)
    assert needed is None if effect == 0 else needed >= 2 * (2.8015 / effect) ** 2
