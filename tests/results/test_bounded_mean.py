"""The interval by problem: equal to Wilson's and Tango's with one output per problem, and never empty with several."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import cochrans_q

from workloads.results.stats.bounded_mean import clustered_share, equal_shares_p, mean_interval, score_statistic
from workloads.results.stats.difference import score_interval, score_z
from workloads.results.stats.share import Share


@given(st.integers(1, 300), st.data())
def test_one_output_per_problem_gives_wilsons_interval(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found = mean_interval([1.0] * k + [0.0] * (n - k), 0.0, 1.0, 0.05, single=True)
    assert found == pytest.approx(Share(k, n).interval, abs=1e-8)


@settings(max_examples=60)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_one_output_per_problem_gives_tangos_interval_and_statistic(first: int, second: int, same: int) -> None:
    n = max(1, first + second + same)
    values = np.array([1.0] * first + [-1.0] * second + [0.0] * (n - first - second))
    assert mean_interval(list(values), -1.0, 1.0, 0.1, single=True) == pytest.approx(
        score_interval(first, second, n, 0.1), abs=1e-6
    )
    assert score_statistic(values - 0.05, -1.05, 0.95) == pytest.approx(score_z(first, second, n, 0.05), abs=1e-8)


@given(st.integers(1, 40), st.integers(1, 16), st.data())
def test_the_interval_contains_the_estimate_and_has_a_width(problems: int, outputs: int, data: st.DataObject) -> None:
    right = data.draw(st.lists(st.integers(0, outputs), min_size=problems, max_size=problems))
    found = clustered_share([(k, outputs) for k in right])
    assert found.interval is not None
    low, high = found.interval
    assert 0 <= low <= found.k / found.n <= high <= 1
    assert high - low > 1 / (problems + 4)


def test_equal_values_leave_the_rule_of_three() -> None:
    """With one-sided z = 1.64 and no difference in m problems, the bound is z^2 / (m + z^2), and wider with Student's
    t.
    """
    low, high = mean_interval([0.0] * 50, -1.0, 1.0, 0.1, single=False)
    assert 0.0513 < high < 0.055
    assert low == pytest.approx(-high)


def test_a_share_of_a_part_is_by_problem_too() -> None:
    """The share of right outputs among completed ones: problems have different numbers of these, and some have none."""
    counts = [(2, 4), (4, 4), (0, 1), (0, 0)] * 10
    found = clustered_share(counts)
    assert (found.k, found.n, found.problems) == (60, 90, 30)
    assert found.interval is not None
    width, pooled = found.interval[1] - found.interval[0], Share(60, 90).interval
    assert pooled is not None
    assert width > pooled[1] - pooled[0]


def test_at_most_one_output_per_problem_is_counted_as_before() -> None:
    assert clustered_share([(1, 1), (0, 1), (0, 0)]) == Share(1, 2)
    assert clustered_share([]) == Share(0, 0)


@given(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=4, max_size=30))
def test_equal_shares_are_tested_as_by_cochran(rows: list[list[int]]) -> None:
    scores = np.array(rows)
    if (scores == scores[:, :1]).all():
        assert equal_shares_p(scores) == 1.0
    else:
        assert equal_shares_p(scores) == pytest.approx(float(cochrans_q(scores).pvalue))


def test_equal_shares_are_rejected_about_as_often_as_stated() -> None:
    """500 runs of 4 equal checkpoints, 100 problems of different difficulty, 8 outputs each: nominal 5%."""
    rng = np.random.default_rng(19)
    strengths = rng.beta(0.5, 0.15, (500, 100, 1))
    scores = rng.binomial(8, np.broadcast_to(strengths, (500, 100, 4))) / 8
    assert np.mean([equal_shares_p(run) < 0.05 for run in scores]) < 0.08
