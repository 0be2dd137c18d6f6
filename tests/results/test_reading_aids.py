"""Trends, equivalence, output lengths, and tables by level, subject and suite of tests."""

import hashlib

import numpy as np
import pytest

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.grades import Grade
from workloads.api.manifest import Manifest
from workloads.api.records import Output
from workloads.benchmarks.load import load
from workloads.benchmarks.registry import BENCHMARKS
from workloads.results.breakdown import breakdowns
from workloads.results.lengths import length_contrasts, signed_rank_p
from workloads.results.manifest import _suites
from workloads.results.scores import Score
from workloads.results.stats.equivalence import above_p, equivalence_p
from workloads.results.stats.paired import pair
from workloads.results.stats.share import Share
from workloads.results.stats.trend import trend

RUN = MadeRun("mine", (50, 100))


def figure(codes: str, samples: int) -> Score:
    right = Share(codes.count("R"), len(codes))
    by_problem = {f"p{i}": code for i, code in enumerate(codes)}
    return Score(f"mine@{samples}", samples, "sums", 4096, right, right, right, by_problem)


def test_a_trend_is_the_least_squares_line_from_the_first_to_the_last_checkpoint() -> None:
    figures = tuple(figure("R" * k + "W" * (100 - k), s) for k, s in ((90, 100), (70, 200), (65, 400), (20, 800)))
    found = trend(figures, "accuracy")
    assert found is not None
    slope = np.polyfit([100, 200, 400, 800], [0.9, 0.7, 0.65, 0.2], 1)[0]
    assert found.change == pytest.approx(slope * 700)
    assert found.low < found.change < found.high < 0


def test_a_fall_that_is_the_same_on_every_problem_is_as_sure_as_its_number_of_problems_allows() -> None:
    few, many = (trend(tuple(figure(c * n, i + 1) for i, c in enumerate("RRW")), "accuracy") for n in (3, 100))
    assert few is not None
    assert many is not None
    assert 0 < many.p < 1e-6 < few.p < 1
    assert many.low < many.high


def test_two_checkpoints_have_no_trend() -> None:
    assert trend((figure("RW", 1), figure("WW", 2)), "accuracy") is None


@pytest.mark.parametrize(("problems", "equivalent"), [(20, False), (500, True)])
def test_equal_answers_are_equivalent_only_on_enough_problems(problems: int, equivalent: bool) -> None:
    codes = {str(i): "R" for i in range(problems)}
    assert (equivalence_p(pair(codes, codes, "accuracy"), 0.05) < 0.01) is equivalent


def test_a_difference_above_the_margin_is_not_equivalent() -> None:
    first, second = ({str(i): "RW"[i < k] for i in range(500)} for k in (0, 50))
    pairs = pair(first, second, "accuracy")
    assert equivalence_p(pairs, 0.05) > 0.9
    assert above_p(pairs, 0.05) < 0.01


def test_lengths_are_compared_problem_by_problem() -> None:
    codes = {(m, "sums", 4096): "R" * 30 for m in ("base", "mine@50", "mine@100")}
    tokens = {("base", "sums"): tuple(range(100, 130)), ("mine@100", "sums"): tuple(range(150, 180))}
    (found,) = length_contrasts(experiment((RUN,), codes, problems={"sums": 30}, tokens=tokens))
    assert (found.model, found.longer, found.shorter, found.problems) == ("mine@100", 30, 0, 30)
    assert (found.base_median, found.median) == (114.5, 164.5)
    assert found.verdict == "longer than the base"


def test_lengths_that_do_not_differ_give_no_finding() -> None:
    assert signed_rank_p(np.zeros(10)) == 1.0
    assert signed_rank_p(np.array([1.0])) == 1.0
    assert signed_rank_p(np.arange(1.0, 11.0)) == pytest.approx(2 / 2**10)


def math_500() -> Manifest:
    """The package's own problems by their ids, all right but those of level 5."""
    problems = load("math-500").problems[:60]
    text = "".join("W" if problem.level == 5 else "R" for problem in problems)
    made = experiment((RUN,), {(m, "math-500", 4096): text for m in ("base", "mine@50", "mine@100")}, problems={"math-500": 60})  # fmt: skip
    content = hashlib.sha256(BENCHMARKS["math-500"].path.read_bytes()).hexdigest()
    ids = tuple(problem.id for problem in problems)
    return made.model_copy(
        update={
            "benchmarks": (made.benchmarks[0].model_copy(update={"content": content}),),
            "evaluations": tuple(e.model_copy(update={"problems": ids}) for e in made.evaluations),
        }
    )


def test_accuracy_by_level_and_subject_is_read_from_the_packages_own_problems() -> None:
    found = breakdowns(math_500())
    assert [table.by for table in found.tables] == ["level", "subject"]
    by_level = found.tables[0]
    assert by_level.groups == ("1", "2", "3", "4", "5")
    assert [row.model for row in by_level.rows] == ["base", "mine@100"]
    assert [share.value for share in by_level.rows[1].shares] == [1, 1, 1, 1, 0]
    assert sum(share.n for share in by_level.rows[0].shares) == 60
    assert not found.missing


def test_levels_of_another_benchmark_are_reported_as_missing() -> None:
    made = experiment((RUN,), {(m, "sums", 4096): "RW" for m in ("base", "mine@50", "mine@100")}, problems={"sums": 2})
    (reason,) = breakdowns(made).missing
    assert reason.startswith("sums: no table by level or subject: a manifest does not hold them")


def test_base_and_plus_tests_are_counted_separately() -> None:
    """Two programs pass the base tests; one of them fails a plus test."""
    codes = {(m, "mbpp-plus", 4096): "RWn" for m in ("base", "mine@50", "mine@100")}
    made = experiment((RUN,), codes, problems={"mbpp-plus": 3}, graders={"mbpp-plus": "code"})
    (reason,) = breakdowns(made).missing
    assert "made before verdicts by suite were kept" in reason
    suites = {"base": "PPF", "plus": "PFF"}
    with_suites = tuple(
        e.model_copy(update={"budgets": tuple(b.model_copy(update={"suites": suites}) for b in e.budgets)})
        for e in made.evaluations
    )
    (table,) = breakdowns(made.model_copy(update={"evaluations": with_suites})).tables
    assert table.groups == ("base", "plus", "all")
    assert [(share.k, share.n) for share in table.rows[0].shares] == [(2, 3), (1, 3), (1, 3)]


def test_the_manifest_keeps_a_letter_for_each_suite_and_output() -> None:
    outputs = [
        Output(problem=p, prompt_sha256="0" * 64, prompt_tokens=1, token_ids=(1,), text="", finish_reason="stop")
        for p in ("a", "b", "c")
    ]
    evidence = {"a": {"base": "pass", "plus": "pass"}, "b": {"base": "pass", "plus": "timeout"}}
    grades = [
        Grade(
            problem=o.problem, budget_tokens=8, tokens=1, ended=True, completed=o.problem != "c",
            verdict="right" if o.problem == "a" else "wrong",
            evidence={"suites": evidence[o.problem]} if o.problem in evidence else {},
        )
        for o in outputs
    ]  # fmt: skip
    assert _suites(grades, outputs) == {8: {"base": "PPF", "plus": "PFF"}}
