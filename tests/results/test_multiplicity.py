"""One error rate for many comparisons: one that cannot be significant takes no share, and intervals agree with
verdicts.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.results.made_experiment import MadeRun, experiment
from workloads.results.conclusions import WEIGHTS, Group, conclusions, planned_levels
from workloads.results.stats.difference import paired_difference
from workloads.results.stats.multiplicity import Comparison, adjust, tarone_number, weighted_holm
from workloads.results.stats.paired import Pairs

ALPHA = 0.05
SHARES = {"first": 0.7, "second": 0.3}
COMPARISONS = st.lists(
    st.builds(Comparison, st.sampled_from(["first", "second"]), st.floats(1e-6, 1), st.sampled_from([0.0, 0.001, 1.0])),
    max_size=12,
).map(lambda items: [Comparison(c.group, max(c.p, c.least_p), c.least_p) for c in items])


def pairs(only_first: int, only_second: int, same: int) -> Pairs:
    first = (1.0,) * only_first + (0.0,) * only_second + (1.0,) * same
    second = (0.0,) * only_first + (1.0,) * only_second + (1.0,) * same
    return Pairs(first, second, True, 0)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 5)), max_size=12))
def test_weighted_holm_rejects_what_its_definition_rejects(items: list[tuple[int, int]]) -> None:
    """Compares with the procedure step by step, at 5% (Holm 1979, section 3), in whole numbers."""
    adjusted = weighted_holm([p / 1000 for p, _ in items], [float(w) for _, w in items])
    left, expected = dict(enumerate(items)), set()
    while left:
        index = min(left, key=lambda i: left[i][0] / left[i][1])
        p, weight = left[index]
        if p * sum(w for _, w in left.values()) > 50 * weight:
            break
        expected.add(index)
        del left[index]
    assert {i for i, p in enumerate(adjusted) if p <= 0.05 + 1e-9} == expected


def test_a_p_value_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        weighted_holm([float("nan"), 0.2], [1, 1])


@given(COMPARISONS)
def test_the_level_of_the_interval_decides_as_the_test_does(items: list[Comparison[str]]) -> None:
    for item, adjusted in zip(items, adjust(items, SHARES, ALPHA), strict=True):
        assert 0 < adjusted.level <= ALPHA
        if abs(adjusted.p - ALPHA) > 1e-9 and item.least_p < 1:
            assert (adjusted.p < ALPHA) == (item.p <= adjusted.level) or adjusted.p == 1.0


@given(COMPARISONS, st.integers(1, 50))
def test_comparisons_that_cannot_be_significant_do_not_change_the_others(
    items: list[Comparison[str]], number: int
) -> None:
    """No pair of problems differs, or only one does: p is 1 in both directions."""
    known = adjust(items, SHARES, ALPHA)
    more = adjust([*items, *[Comparison("first", 1.0, 1.0)] * number], SHARES, ALPHA)
    assert [a.p for a in more[: len(items)]] == pytest.approx([a.p for a in known])
    assert all(a.p == 1.0 for a in more[len(items) :])


def test_a_group_without_a_testable_comparison_leaves_its_share_to_the_others() -> None:
    alone = adjust([Comparison("first", 0.04, 0.01)], SHARES, ALPHA)
    assert adjust([Comparison("first", 0.04, 0.01), Comparison("second", 0.5, 0.5)], SHARES, ALPHA)[0] == alone[0]
    (one,) = alone
    assert (one.p, one.level) == pytest.approx((0.04, ALPHA))


@given(st.lists(st.sampled_from([0.5**k for k in range(12)]), max_size=30), st.sampled_from([0.05, 0.0175]))
def test_tarones_number_is_the_smallest_that_its_definition_allows(least: list[float], level: float) -> None:
    found = tarone_number(least, level)
    allowed = [k for k in range(1, len(least) + 2) if sum(p <= level / k for p in least) <= k]
    assert found == allowed[0]


def test_with_an_exact_test_false_statements_stay_below_five_percent_and_few_discordant_pairs_cost_nothing() -> None:
    """2,000 experiments of 30 comparisons without a difference: 25 with up to 4 discordant pairs, 5 with up to 25."""
    rng = np.random.default_rng(19)
    exact = {(d, k): float(binomtest(k, d).pvalue) if d else 1.0 for d in range(26) for k in range(d + 1)}
    wrong = 0
    for _ in range(2000):
        sizes = [*rng.integers(0, 5, 25).tolist(), *rng.integers(8, 26, 5).tolist()]
        items = [Comparison("first", exact[d, int(rng.binomial(d, 0.5))], min(1.0, 2.0 ** (1 - d))) for d in sizes]
        found = adjust(items, SHARES, ALPHA)
        wrong += any(a.p < ALPHA for a in found)
        assert {a.p for a in found[:25]} == {1.0}
    assert 0.01 < wrong / 2000 < 0.05


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.sampled_from([0.05, 0.01, 0.0004]))
def test_an_interval_leaves_out_zero_where_the_difference_is_significant(
    first: int, second: int, same: int, level: float
) -> None:
    found = paired_difference(pairs(first, second, same + 1))
    significant = found.p <= level
    low, high = found.interval_at(level, significant=significant)
    assert low <= found.estimate <= high
    assert (low >= 0 or high <= 0) if significant else low <= 0 <= high
    signs = f"{low:+.9f}"[0] + f"{high:+.9f}"[0]
    assert signs == ("++" if found.estimate > 0 else "--") if significant else signs == "-+"


def test_the_smallest_p_is_of_all_differing_problems_in_one_direction() -> None:
    assert [paired_difference(pairs(k, 0, 20)).least_p for k in (0, 1, 2, 6)] == [1.0, 1.0, 0.5, 2.0**-5]
    assert paired_difference(pairs(3, 3, 20)).least_p == 2.0**-5


def test_in_a_report_every_interval_leaves_out_zero_if_and_only_if_its_difference_is_significant() -> None:
    """Runs that differ by 25 and by 50 points, with a benchmark on which nothing differs and one of 8 problems."""
    runs = (MadeRun("low", (50, 100), budget=96), MadeRun("high", (50, 100), budget=96))
    codes = {}
    for budget in (96, 192):
        for name, right in {"base": 10, "low@50": 12, "low@100": 20, "high@50": 25, "high@100": 30}.items():
            codes[name, "sums", budget] = "R" * right + "W" * (40 - right)
            codes[name, "none", budget] = "W" * 40
            codes[name, "few", budget] = "R" * (right // 5) + "n" * (8 - right // 5)
    found = conclusions(experiment(runs, codes, budgets=(96, 192), problems={"sums": 40, "none": 40, "few": 8}))
    contrasts = [c for pair in found.runs.pairs for c in pair.contrasts]
    contrasts += [c for end in found.ends for cell in end.cells for c in (cell.accuracy, cell.completed)]  # type: ignore[misc]
    contrasts += [c for row in found.rows.values() for c in (row.accuracy, row.completed)]  # type: ignore[misc]
    assert {c.significant for c in contrasts} == {True, False}
    for c in contrasts:
        assert c.interval is not None
        low, high = c.interval
        assert (low >= 0 or high <= 0) == c.significant
        if c.benchmark != "sums":
            assert not c.significant


def test_planned_levels_are_those_of_a_report_in_which_nothing_is_rejected() -> None:
    """Four groups of comparisons, all of them testable, like those of three runs on two benchmarks."""
    sizes: dict[Group, int] = {"best run": 6, "ends": 12, "findings": 7, "other": 9}
    items: list[Comparison[Group]] = [Comparison(group, 0.5) for group, size in sizes.items() for _ in range(size)]
    found = {item.group: adjusted.level for item, adjusted in zip(items, adjust(items, WEIGHTS, ALPHA), strict=True)}
    for group, level in planned_levels(runs=3, benchmarks=2, budgets=1).items():
        assert level == pytest.approx(found[group])
    assert planned_levels(runs=1, benchmarks=2, budgets=1) == {"ends": pytest.approx(0.05 * 0.35 / 0.65 / 4)}


def test_a_report_has_as_many_comparisons_of_last_checkpoints_as_are_planned() -> None:
    runs = tuple(MadeRun(name, (50, 100)) for name in ("one", "two", "three"))
    models = ["base", *(f"{run.name}@{samples}" for run in runs for samples in run.samples)]
    codes = {(model, name, 4096): "RW" * 10 for model in models for name in ("sums", "lists")}
    found = conclusions(experiment(runs, codes, problems={"sums": 20, "lists": 20}))
    best = [c for pair in found.runs.pairs for c in pair.contrasts if (c.which, c.metric) == ("last", "accuracy")]
    assert (len(best), 2 * sum(len(end.cells) for end in found.ends)) == (6, 12)
