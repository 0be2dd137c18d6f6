"""The page's layout in a real Chromium: no table cell overflows and the page is never wider than the screen."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.report.browser import browser
from tests.report.measure import CELLS, OPEN_ALL, PAGE_WIDTH, WIDER_CELLS, style
from tests.report.synthetic import synthetic
from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.report.accepted import AcceptedExperiment
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.storage.base import Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.long]
WIDTHS = (390, 1180, 1400, 1920)
REASON = (
    "attempt 3: CorruptFiles: outputs.jsonl of marker outputs is missing (key units/generate/" + "0123456789abcdef" * 8
)

ACCEPTED = AcceptedExperiment(
    datetime(2026, 2, 16, tzinfo=UTC), datetime(2026, 2, 18, tzinfo=UTC), "name: " + "long" * 200
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store((tmp_path_factory.mktemp("layout") / "store").as_uri())


@pytest.fixture(scope="module")
def finished(store: Store) -> Manifest:
    """Returns a manifest that is as large as that of the experiment distill-16-02."""
    return synthetic(store, characters=200)


def partly_failed(manifest: Manifest) -> Manifest:
    """Every second evaluation failed with a long reason."""
    evaluations = tuple(
        e.model_copy(update={"state": "failed", "reason": REASON, "budgets": ()}) if number % 2 else e
        for number, e in enumerate(manifest.evaluations)
    )
    return manifest.model_copy(update={"state": "partially_failed", "evaluations": evaluations})


def running(manifest: Manifest) -> Manifest:
    """Half of the evaluations have no result yet."""
    half = len(manifest.evaluations) // 2
    evaluations = tuple(
        e if number < half else e.model_copy(update={"state": "waiting", "budgets": (), "problems": (), "tokens": ()})
        for number, e in enumerate(manifest.evaluations)
    )
    return manifest.model_copy(update={"state": "running", "evaluations": evaluations})


def quickstart(_: Manifest) -> Manifest:
    """The quickstart's end: two budgets, a benchmark on which all models are equal, and warnings about the data."""
    runs = tuple(
        MadeRun(f"math_{name}", (300, 600, 900, 1200), 96, label=f"Math {name}", changes={"overlong": overlong})
        for name, overlong in (("truncated", "truncate"), ("dropped", "drop"))
    )
    models = ["base", *(f"{run.name}@{samples}" for run in runs for samples in run.samples)]
    right = {"base": 11, "math_truncated@1200": 25, "math_dropped@1200": 34}
    codes = {
        (model, name, budget): letters
        for model in models
        for budget in (96, 192)
        for name, letters in (
            ("sums", "R" * right.get(model, 20) + "n" * (40 - right.get(model, 20))),
            ("mbpp-plus", "W" * 8),
        )
    }
    manifest = experiment(runs, codes, budgets=(96, 192), problems={"sums": 40, "mbpp-plus": 8})
    warning = "EndNotTaught: 570 of 1200 samples (48%) are cut at 96 tokens and teach no end token"
    return manifest.model_copy(
        update={"runs": tuple(run.model_copy(update={"warnings": (warning,)}) for run in manifest.runs)}
    )


@pytest.mark.parametrize(
    "made",
    [Manifest.model_copy, partly_failed, running, quickstart],
    ids=["finished", "failed", "running", "quickstart"],
)
def test_no_cell_overflows_and_the_page_is_as_wide_as_the_screen(
    made: Callable[[Manifest], Manifest], finished: Manifest, store: Store, tmp_path: Path
) -> None:
    manifest = made(finished)
    path = tmp_path / "index.html"
    path.write_text(page(manifest, replace(reading(manifest, store), accepted=ACCEPTED)))
    with browser(tmp_path / "profile") as shown:
        for width in WIDTHS:
            shown.looks(width, 900, "light")
            shown.open(path)
            shown.ask(
                style("body, table, td, th, code { font-family: 'DejaVu Sans', Verdana, sans-serif !important; }")
            )
            shown.ask(OPEN_ALL)
            assert shown.ask(CELLS) > 200
            assert shown.ask(WIDER_CELLS) == []
            assert shown.ask(PAGE_WIDTH) <= width


def test_the_measure_finds_cells_that_overflow(finished: Manifest, store: Store, tmp_path: Path) -> None:
    """An older version laid out the tables like this."""
    path = tmp_path / "index.html"
    path.write_text(page(finished, reading(finished, store)))
    with browser(tmp_path / "profile") as shown:
        shown.looks(1180, 900, "light")
        shown.open(path)
        shown.ask(
            style(".shares { table-layout: fixed; width: 40rem; min-width: 0 } .shares th { min-width: 0 !important }")
        )
        assert len(shown.ask(WIDER_CELLS)) > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_is_on_the_first_screen(finished: Manifest, store: Store, scheme: str, tmp_path: Path) -> None:
    """Four runs, two benchmarks and two budgets: the headline and the whole table, without scrolling."""
    path = tmp_path / "index.html"
    path.write_text(page(finished, reading(finished, store)))
    with browser(tmp_path / "profile") as shown:
        shown.looks(1400, 900, scheme)
        shown.open(path)
        assert shown.ask("document.querySelector('.lead').getBoundingClientRect().bottom") < 200
        assert shown.ask("document.querySelector('.overview').getBoundingClientRect().bottom") < 900


def test_a_failure_is_shown_once_in_full_and_a_row_without_a_result_is_one_line(
    finished: Manifest, store: Store, tmp_path: Path
) -> None:
    """The cause is in the headline and beneath it; rows of the tables name it within one line of text."""
    path = tmp_path / "index.html"
    path.write_text(page(partly_failed(finished), reading(finished, store)))
    with browser(tmp_path / "profile") as shown:
        shown.looks(1180, 900, "light")
        shown.open(path)
        assert "20 evaluations failed: CorruptFiles: outputs.jsonl" in shown.ask(
            "document.querySelector('.lead').innerText"
        )
        heights = "[...document.querySelectorAll('.shares td.wide')].map((cell) => cell.getBoundingClientRect().height)"
        found = shown.ask(heights)
        assert len(found) == 18
        assert max(found) < 40
