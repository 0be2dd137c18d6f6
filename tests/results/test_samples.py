"""Several outputs per problem: pass@k and maj@k against every draw, and figures of a manifest."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.results.made_manifest import BUDGET, manifest, sampled
from workloads.api.units import Sampling
from workloads.results.samples import COLUMNS, cells, majority_at, pass_at, sampled_rows, sizes

SAMPLING = Sampling(n=4, temperature=0.7)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_mean_over_every_draw_of_k_outputs(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    draws = list(combinations(right, k))
    assert pass_at(sum(right), len(right), k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@settings(max_examples=80)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.data())
def test_majority_at_k_is_the_mean_over_every_draw_of_k_outputs(answers: list[int], data: st.DataObject) -> None:
    """Answer 1 is the right one; 0 has no vote; among answers with equal votes one is drawn."""
    k = data.draw(st.integers(1, len(answers)))
    draws = list(combinations(answers, k))

    def won(draw: tuple[int, ...]) -> float:
        votes = {answer: draw.count(answer) for answer in draw if answer}
        first = [answer for answer, count in votes.items() if count == max(votes.values())]
        return (1 in first) / len(first) if first else 0.0

    expected = sum(map(won, draws)) / len(draws)
    assert majority_at(answers, [answer == 1 for answer in answers], k) == pytest.approx(expected)


def test_right_answers_that_are_written_differently_are_one_answer() -> None:
    assert majority_at((1, 2, 3, 3), (True, True, False, False), 4) == 0.5
    assert majority_at((1, 2, 4, 3, 3), (True, True, True, False, False), 5) == 1.0


def test_the_sizes_are_powers_of_two_and_all() -> None:
    assert (sizes(1), sizes(4), sizes(10)) == ((1,), (1, 2, 4), (1, 2, 4, 8, 10))


def test_a_manifest_gives_mean_pass_and_majority_with_intervals_by_problem() -> None:
    codes, answers = ["RRWW", "RWWW", "WWWW", "RRRR"], ((1, 1, 2, 3, 1, 2, 2, 3, 1, 1, 2, 2, 1, 1, 1, 1),)
    found = manifest(sampled("base", codes), sampled("mine@100", codes, answers=answers), sampling=SAMPLING)
    base, mine = sampled_rows(found)
    assert (base.model, base.majority_at, base.budget_tokens) == ("base", (), BUDGET)
    assert mine.mean.value == pytest.approx(7 / 16)
    assert mine.mean.low < mine.mean.value < mine.mean.high
    assert [k for k, _ in mine.pass_at] == [1, 2, 4]
    assert dict(mine.pass_at)[1].value == pytest.approx(mine.mean.value)
    assert dict(mine.pass_at)[4].value == 0.75
    assert dict(mine.majority_at)[4].value == pytest.approx(2 / 4), "2:1:1 is won, 1:2:1 is lost"
    assert all(len(line) == len(COLUMNS) for line in cells(mine))


def test_a_problem_that_could_not_be_graded_whole_is_left_out() -> None:
    found = manifest(sampled("base", ["RRWW", "RRRR"]), sampled("mine@100", ["RReW", "RRRR"]), sampling=SAMPLING)
    assert [row.mean.problems for row in sampled_rows(found)] == [2, 1]


def test_one_output_per_problem_has_no_such_figures() -> None:
    assert sampled_rows(manifest(sampled("base", ["R", "W"]))) == ()


def test_answers_without_an_output_are_refused() -> None:
    with pytest.raises(ValueError, match="answers need 4 numbers"):
        sampled("base", ["RW", "WW"], answers=((1, 2),))
