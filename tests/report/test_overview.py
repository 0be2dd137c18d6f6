"""The first screen states the result: the best run, why something failed, and each run's end against the base."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.blocked import blocked_by_run
from workloads.api.manifest import Manifest
from workloads.report.failures import cause_text, causes, progress
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import base_change
from workloads.report.overview import Overview, OverviewRow, overview
from workloads.report.summary import summary
from workloads.results.base_comparison import BaseContrast
from workloads.results.conclusions import conclusions
from workloads.results.stats.difference import Difference

SLOW = MadeRun("slow", (100, 200), label="Slow", changes={"learning_rate": 1e-3})
FAST = MadeRun("fast", (100, 200), label="Fast", changes={"learning_rate": 5e-3})
GOOD, MIDDLE, BAD = "R" * 90 + "W" * 10, "R" * 50 + "W" * 50, "R" * 10 + "W" * 90
FAILED = {"state": "failed", "reason": "disk full", "problems": (), "tokens": (), "finish": "", "budgets": ()}
RIGHT = {"base": MIDDLE, "slow@100": MIDDLE, "slow@200": MIDDLE, "fast@100": MIDDLE, "fast@200": GOOD}


def made(right: Mapping[str, str] = RIGHT, size: int = 100, **changes: Any) -> Manifest:
    """Two runs on one benchmark of `size` problems at 4,096 tokens."""
    codes = {(model, "sums", 4096): letters for model, letters in right.items()}
    return experiment((SLOW, FAST), codes, problems={"sums": size}, **changes)


def shown(manifest: Manifest) -> Overview:
    return overview(manifest, conclusions(manifest))


def rows(manifest: Manifest) -> dict[str, OverviewRow]:
    return {row.label: row for row in shown(manifest).groups[0].rows}


def test_the_headline_names_the_best_run_and_its_row_is_marked() -> None:
    found = shown(made())
    assert found.headline.startswith("Best run: Fast (fast@200)")
    assert [row.label for row in found.groups[0].rows if row.is_best] == ["Fast"]


def test_the_headline_says_that_none_can_be_named_when_the_runs_are_equal() -> None:
    found = shown(made(RIGHT | {"fast@200": MIDDLE}))
    assert found.headline.startswith("No run can be named best")
    assert not [row for row in found.groups[0].rows if row.is_best]


@pytest.mark.parametrize(("codes", "mark"), [(GOOD, "higher"), (BAD, "lower"), (MIDDLE, "same")])
def test_the_difference_to_the_base_has_a_mark_and_words(codes: str, mark: str) -> None:
    change = rows(made(RIGHT | {"slow@200": codes}))["Slow"].cells[0].change
    assert change is not None
    assert change.mark == mark
    assert {"higher": "higher than", "lower": "lower than", "same": "not distinguishable from"}[mark] in change.title


def test_the_interval_that_is_shown_is_the_adjusted_one_and_the_title_has_that_of_the_comparison_alone() -> None:
    alone = Difference(0.56, 0.50, 100, low=0.01, high=0.12, p=0.02, method="paired", needed=None)
    contrast = BaseContrast("slow@200", "sums", 4096, "accuracy", alone, adjusted_p=0.4, interval=(-0.03, 0.15))
    change = base_change(contrast)
    assert change is not None
    assert (change.mark, change.text, change.interval) == ("same", "+6.0", "-3.0 to +15.0")
    assert change.title.endswith("not distinguishable from the base; this comparison alone, at 95%: +1.0 to +12.0")


def test_each_run_says_in_what_it_differs() -> None:
    assert [rows(made())[name].fields for name in ("Slow", "Fast")] == ["learningRate 1e-3", "learningRate 5e-3"]


def test_the_base_is_counted_on_the_problems_that_the_runs_were_asked() -> None:
    """The base is asked 500 problems, the checkpoints 100 of them, and all models are alike on these: the page shows no
    difference.
    """
    manifest = made(RIGHT | {"base": MIDDLE + "R" * 400, "fast@200": MIDDLE}, size=500)
    found = rows(manifest)
    assert found["Base"].cells[0].counts == "50/100"
    assert found["Slow"].cells[0].change is not None
    assert found["Slow"].cells[0].change.text == "+0.0"


def test_a_running_experiment_shows_its_progress() -> None:
    waiting = {(model, "sums"): ("waiting", None) for model in ("slow@200", "fast@100", "fast@200")}
    manifest = made(states=waiting, state="running")
    assert shown(manifest).headline == "Still running: 2 of 5 evaluations are graded, 3 are waiting."
    assert rows(manifest)["Fast"].cells[0].missing == "not evaluated yet"


def test_when_all_fails_for_one_reason_the_headline_says_so_and_the_reason_follows() -> None:
    """Messages that differ only in numbers are one reason."""
    failed = {
        (model, "sums"): ("failed", f"attempt 1: the prompt has {41 + i} tokens; the base's context holds 4096")
        for i, model in enumerate(RIGHT)
    }
    found = shown(made(states=failed, state="failed"))
    assert found.headline == (
        "Nothing was graded: all 5 evaluations failed: the prompt has 41 tokens; the base's context holds 4096"
    )
    assert [cause.text for cause in found.causes] == ["the prompt has 41 tokens; the base's context holds 4096"]
    assert found.causes[0].where == "5 evaluations"
    assert len(found.groups) == 1


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("disk full", "disk full."),
        ("disk full\nTraceback: 12 lines", "disk full..."),
        ("outputs.jsonl is missing (key units/generate/" + "0" * 90 + ")", "outputs.jsonl is missing..."),
        ("x" * 200, "x" * 110 + "..."),
    ],
)
def test_the_headline_of_a_page_with_failures_begins_with_their_common_cause(text: str, short: str) -> None:
    states = {("fast@200", "sums"): ("failed", f"attempt 3: {text}"), ("fast@100", "sums"): ("failed", text)}
    found = shown(made(states=states, state="partially_failed"))
    assert found.headline.startswith(f"2 evaluations failed: {short} No run can be named best")
    assert found.causes[0].text == text


def test_a_run_and_the_evaluations_that_failed_with_it_are_one_cause() -> None:
    reason = "CUDA out of memory"
    states = {
        ("fast@200", "sums"): ("failed", f"no checkpoint at 200 samples: 3 attempts failed, attempt 3 with: {reason}")
    }
    manifest = made(states=states, state="partially_failed")
    run = manifest.runs[1].model_copy(
        update={"state": "failed", "reason": f"3 attempts failed, attempt 3 with: {reason}"}
    )
    (cause,) = causes(manifest.model_copy(update={"runs": (manifest.runs[0], run)}))
    assert (cause.text, cause.where) == (reason, "1 run (Fast) and 1 evaluation")
    assert "fast@200" in shown(manifest).headline


def test_evaluations_that_a_failed_run_blocks_are_counted_with_the_runs_own_cause() -> None:
    reason = blocked_by_run("fast")
    manifest = made(states={("fast@200", "sums"): ("failed", reason)}, state="partially_failed")
    run = manifest.runs[1].model_copy(update={"state": "failed", "reason": "CUDA out of memory"})
    assert run.name == "fast"
    (cause,) = causes(manifest.model_copy(update={"runs": (manifest.runs[0], run)}))
    assert (cause.text, cause.where) == ("CUDA out of memory", "1 run (Fast) and 1 evaluation")


def test_the_parts_of_one_benchmark_are_one_evaluation_in_headline_causes_and_summary() -> None:
    manifest = made(RIGHT | {"base": MIDDLE + "R" * 400}, size=500)
    assert len(manifest.evaluations) == 6
    assert progress(manifest).text == "5 of 5 evaluations are graded"
    parts = [e if e.model != "base" else e.model_copy(update=FAILED) for e in manifest.evaluations]
    failed = manifest.model_copy(update={"evaluations": tuple(parts), "state": "partially_failed"})
    assert progress(failed).text == "4 of 5 evaluations are graded, 1 failed"
    assert [cause.where for cause in causes(failed)] == ["1 evaluation"]
    said = summary(failed)
    assert "4 of 5 evaluations are graded" in said[0]
    assert said[1] == "1 evaluation failed: disk full (base sums/fast)."


def test_a_part_that_is_graded_is_something_though_no_evaluation_is_whole() -> None:
    manifest = made({"base": MIDDLE + "R" * 400, "slow@200": MIDDLE + "R" * 400, "fast@100": MIDDLE}, size=500)
    parts = [e if e.part == "fast" and e.model == "base" else e.model_copy(update=FAILED) for e in manifest.evaluations]
    failed = manifest.model_copy(update={"evaluations": tuple(parts), "state": "partially_failed"})
    assert progress(failed).graded == 0
    assert "Nothing was graded" not in shown(failed).headline


def test_a_reason_without_a_prefix_is_kept_and_a_missing_one_is_stated() -> None:
    assert cause_text("attempt 12: attempt 3: it broke") == "it broke"
    assert cause_text(None) == "no reason is recorded"


@pytest.mark.parametrize(("letter", "share"), [("W", "0.0%"), ("R", "100.0%")])
def test_a_benchmark_on_which_models_are_equal_is_one_sentence_and_no_column(letter: str, share: str) -> None:
    codes = {(model, "sums", 4096): letters for model, letters in RIGHT.items()}
    codes |= {(model, "easy", 4096): letter * 8 for model in RIGHT}
    manifest = experiment((SLOW, FAST), codes, problems={"sums": 100, "easy": 8})
    found = shown(manifest)
    assert [name for name, _ in found.benchmarks] == ["sums"]
    assert found.flat == (flat_benchmarks(manifest)["easy"],)
    assert f"accuracy is {share} for every model" in found.flat[0]


def test_warnings_of_the_data_are_shown_once_with_the_runs_that_have_them() -> None:
    manifest = made()
    warnings = ("EndNotTaught: 570 of 1200 samples teach no end token", "LossSpike: step 4: loss 9")
    runs = tuple(run.model_copy(update={"warnings": warnings}) for run in manifest.runs)
    found = shown(manifest.model_copy(update={"runs": runs}))
    assert [(w.runs, w.text) for w in found.warnings] == [("Slow, Fast", warnings[0])]
    assert found.other_warnings == 2
