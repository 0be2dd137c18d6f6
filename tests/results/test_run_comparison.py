"""Comparison of runs: the compared checkpoints, the correction for their number, and the report's first sentence."""

from typing import Any

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.results.conclusions import Conclusions, conclusions
from workloads.results.run_comparison import RunContrast

N = 40
LOW = MadeRun("low", (50, 100), changes={"learning_rate": 1e-3})
HIGH = MadeRun("high", (50, 100), changes={"learning_rate": 5e-3})
BASE = "R" * 10 + "W" * 30


def two_runs(low: str, high: str, *, earlier: str = BASE, **changes: Any) -> Manifest:
    """The last checkpoints are low@100 and high@100 with these verdicts; the earlier ones have `earlier`."""
    models = {"base": BASE, "low@50": earlier, "low@100": low, "high@50": earlier, "high@100": high}
    codes = {(model, "sums", 4096): text for model, text in models.items()}
    return experiment((LOW, HIGH), codes, problems={"sums": N}, **changes)


def contrast(found: Conclusions, which: str = "last", metric: str = "accuracy", budget: int = 4096) -> RunContrast:
    return next(
        c for c in found.runs.pairs[0].contrasts if (c.which, c.metric, c.budget_tokens) == (which, metric, budget)
    )


def test_a_pair_is_labelled_by_the_fields_in_which_the_two_runs_differ() -> None:
    found = conclusions(two_runs(BASE, BASE))
    assert found.runs.pairs[0].label == "learningRate 1e-3 / 5e-3"


def test_the_best_run_is_named_with_its_last_checkpoint_and_what_it_is_ahead_by() -> None:
    found = conclusions(two_runs(BASE, "R" * 30 + "W" * 10))
    assert (found.best.run, found.best.model) == ("high", "high@100")
    assert found.best.sentence.startswith(
        "Best run: high (high@100), ahead of low in accuracy on sums by 50.0 points (+3"
    )
    assert "learningRate 1e-3 / 5e-3" in found.best.sentence


def test_equal_runs_have_no_best_one_and_the_sentence_says_so() -> None:
    found = conclusions(two_runs("R" * 20 + "W" * 20, "W" * 2 + "R" * 20 + "W" * 18))
    assert found.best.run is None
    assert found.best.sentence == (
        "No run can be named best: low and high are not distinguishable in accuracy: "
        "sums +0.0 points (-16.2 to +16.2, 40 problems)."
    )


def test_the_best_checkpoints_are_compared_at_the_price_of_every_pair_that_could_have_been_chosen() -> None:
    found = conclusions(two_runs(BASE, "R" * 20 + "W" * 20, earlier="R" * 15 + "W" * 25))
    last, best = contrast(found), contrast(found, "best")
    assert (best.first_model, best.second_model, best.choices) == ("low@50", "high@100", 4)
    assert best.p is not None
    assert best.difference is not None
    assert best.p == min(1.0, 4 * best.difference.p)
    assert last.choices == 1


def test_a_run_whose_end_is_not_evaluated_is_not_compared() -> None:
    manifest = two_runs(BASE, "R" * 40, states={("high@100", "sums"): ("failed", "BadPrompt: too long")})
    found = conclusions(manifest)
    assert found.best.run is None
    assert "high@100 (sums: failed, BadPrompt: too long)" in found.best.sentence
    end = next(end for end in found.ends if end.run == "high")
    assert end.model == "high@100"
    assert end.cells[0].row is None
    assert end.cells[0].accuracy.verdict == "not compared: sums: failed, BadPrompt: too long"


def test_a_run_that_lacks_a_benchmark_is_compared_on_the_others_and_the_sentence_says_what_is_missing() -> None:
    codes = {(m, b, 4096): BASE for m in ("base", "low@50", "low@100", "high@50") for b in ("sums", "lists")}
    codes |= {("high@100", "sums", 4096): "R" * 40, ("high@100", "lists", 4096): "R" * 40}
    states = {("high@100", "lists"): ("waiting", None)}
    found = conclusions(experiment((LOW, HIGH), codes, problems={"sums": N, "lists": N}, states=states))
    assert found.best.sentence.startswith("Best run by what is evaluated: high (high@100)")
    assert found.best.sentence.endswith("Not compared: high@100: lists: not evaluated yet.")
    assert found.best.run is None


def test_every_contrast_is_at_one_budget_though_the_runs_are_shown_at_two() -> None:
    """Answers are equal at each budget: the shorter budget alone makes no difference between runs."""
    short, long = MadeRun("short", (100,), budget=2048), MadeRun("long", (100,), budget=4096)
    at = {2048: "n" * 30 + "R" * 10, 4096: "R" * 40}
    codes = {(m, "sums", b): text for m in ("base", "short@100", "long@100") for b, text in at.items()}
    found = conclusions(experiment((short, long), codes, budgets=(2048, 4096), problems={"sums": N}))
    contrasts = found.runs.pairs[0].contrasts
    assert {c.budget_tokens for c in contrasts} == {2048, 4096}
    assert all(c.difference is not None and c.difference.estimate == 0 for c in contrasts)


def test_which_run_is_best_may_differ_by_budget() -> None:
    short, long = MadeRun("short", (100,), budget=96), MadeRun("long", (100,), budget=96)
    codes = {
        ("base", "sums", 96): BASE, ("base", "sums", 192): BASE,
        ("short@100", "sums", 96): "R" * 30 + "n" * 10, ("short@100", "sums", 192): "R" * 30 + "W" * 10,
        ("long@100", "sums", 96): "R" * 10 + "n" * 30, ("long@100", "sums", 192): "R" * 40,
    }  # fmt: skip
    found = conclusions(experiment((short, long), codes, budgets=(96, 192), problems={"sums": N}))
    assert found.best.by_budget == {96: "short", 192: "long"}
    assert found.best.run is None
    assert "At 96 tokens: best run: short" in found.best.sentence
    assert "At 192 tokens: best run: long" in found.best.sentence
