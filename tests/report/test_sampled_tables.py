"""Several outputs per problem and recipes in words, Markdown, CSV and on the page; no table if there are none."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import browser
from tests.report.measure import OPEN_ALL, PAGE_WIDTH, WIDER_CELLS
from tests.results import made_manifest
from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.api.units import Sampling
from workloads.report.output_browser import reading
from workloads.report.page import page
from workloads.report.sampled_tables import recipe_sentences, recipes_table, samples_table
from workloads.report.summary import summary
from workloads.report.tables_csv import recipes_csv, samples_csv
from workloads.report.text import markdown
from workloads.results import samples, seeds
from workloads.storage.base import open_store

HOSTILE = "=<img src=x onerror=alert(1)> | `a` [b](http://c)"
SEEDS = tuple(MadeRun(f"r{seed}", (50, 100), label=f"Seed {seed}", changes={"seed": seed}) for seed in (1, 2, 3))
LAST = {"r1": "R" * 60 + "W" * 40, "r2": "R" * 62 + "W" * 38, "r3": "R" * 64 + "W" * 36}


def seeded(runs: tuple[MadeRun, ...] = SEEDS, **changes: Any) -> Manifest:
    """Three seeds of one recipe; 100 problems, of which the base gets 50 right."""
    codes = {("base", "sums", 4096): "R" * 50 + "W" * 50}
    codes |= {(f"{run.name}@50", "sums", 4096): "R" * 55 + "W" * 45 for run in runs}
    codes |= {(f"{run.name}@100", "sums", 4096): LAST[run.name] for run in runs}
    return experiment(runs, codes, problems={"sums": 100}, **changes)


def sampled() -> Manifest:
    """Two outputs per problem.

    On the 20 shared problems, half of the base's outputs are right; on the other 80, all.
    """
    codes = {("base", "sums", 4096): "RW" * 20 + "RR" * 80, ("one@100", "sums", 4096): "RR" * 5 + "WW" * 15}
    return experiment((MadeRun("one", (100,)),), codes, problems={"sums": 100}, outputs=2)


def files(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Returns the files of report_files for a store without outputs: the page states this beside the tables."""
    return {
        "index.html": page(manifest, reading(manifest, open_store(folder.as_uri()))),
        "report.md": markdown(manifest),
        "samples.csv": samples_csv(manifest),
        "recipes.csv": recipes_csv(manifest),
    }


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_several_outputs_have_a_table_with_the_base_on_the_shared_problems_too() -> None:
    table = samples_table(sampled())
    assert table is not None
    assert table.columns == ("Model", "Benchmark", "Budget", "Problems", "Mean of 2", "pass@2")
    shared, whole, one = table.rows
    assert shared[:4] == ("base on the problems that all were asked", "sums", "4,096", "20")
    assert (shared[4].split()[0], shared[5].split()[0]) == ("50.0%", "100.0%")
    assert (whole[0], whole[3], whole[4].split()[0]) == ("base", "100", "90.0%")
    assert (one[0], one[3], one[4].split()[0], one[5].split()[0]) == ("one@100", "20", "25.0%", "25.0%")


def test_the_majority_has_columns_where_answers_are_known_and_a_dash_where_they_are_not() -> None:
    answers = ((1, 1, 2, 2, 1, 2),)
    base, mine = made_manifest.sampled("base", ["RR", "WW", "RW"]), ["RR", "WW", "RW"]
    made = made_manifest.manifest(
        base, made_manifest.sampled("mine@100", mine, answers=answers), sampling=Sampling(n=2, temperature=0.7)
    )
    table = samples_table(made)
    assert table is not None
    assert table.columns[4:] == ("Mean of 2", "pass@2", "maj@2")
    assert [row[6].split()[0] for row in table.rows] == ["-", "50.0%"]


def test_a_recipe_has_a_row_for_each_number_of_samples_and_metric() -> None:
    table = recipes_table(seeded())
    assert table is not None
    assert [row[2] for row in table.rows] == ["50", "50", "100", "100"]
    row = dict(zip(table.columns, table.rows[2], strict=True))
    assert (row["Recipe"], row["Seeds"], row["Metric"]) == ("Seed 1 / Seed 2 / Seed 3", "1, 2, 3", "Accuracy")
    assert row["Mean"].startswith("62.0% (")
    assert row["S.d."] == "2.0"
    assert row["To base"].startswith("+12.0 (")


def test_the_summary_speaks_of_the_recipe_with_its_seeds_its_interval_and_its_spread() -> None:
    (said,) = [line for line in summary(seeded()) if line.startswith("Recipe")]
    assert said.startswith(
        "Recipe Seed 1 / Seed 2 / Seed 3 (3 seeds, after 100 samples): sums at 4,096 tokens: 62.0% right ("
    )
    assert "), seeds differ by s.d. 2.0 points (" in said


def test_a_recipe_has_findings_only_if_all_of_its_seeds_are_graded() -> None:
    failed = {("r3@100", "sums"): ("failed", "disk full")}
    assert "after 50 samples): sums at 4,096 tokens: 55.0%" in next(recipe_sentences(seeded(states=failed)))
    failed |= {("r3@50", "sums"): ("failed", "disk full")}
    assert "no number of samples at which all" in next(recipe_sentences(seeded(states=failed)))
    assert recipes_table(seeded(states=failed)) is None


@pytest.mark.slow
def test_markdown_page_and_csv_have_both(tmp_path: Path) -> None:
    made = files(sampled(), tmp_path)
    assert "## Several outputs per problem" in made["report.md"]
    assert "<summary>Several outputs per problem</summary>" in made["index.html"]
    assert {(row["model"], row["scope"]) for row in lines(made["samples.csv"])} == {
        ("base", "shared"), ("base", "all"), ("one@100", "all"),
    }  # fmt: skip
    made = files(seeded(), tmp_path)
    assert "## Recipes" in made["report.md"]
    assert "<summary>Recipes</summary>" in made["index.html"]
    assert {row["seeds"] for row in lines(made["recipes.csv"])} == {"3"}


@pytest.mark.slow
def test_one_output_and_one_seed_have_neither(tmp_path: Path) -> None:
    made = files(seeded(SEEDS[:1]), tmp_path)
    for text in (made["report.md"], made["index.html"]):
        assert "Several outputs per problem" not in text
        assert "Recipe" not in text
    assert made["samples.csv"].splitlines() == [",".join(samples.COLUMNS)]
    assert made["recipes.csv"].splitlines() == [",".join(seeds.COLUMNS)]


@pytest.mark.slow
def test_a_hostile_label_is_text_everywhere(tmp_path: Path) -> None:
    first = MadeRun("r1", (50, 100), label=HOSTILE, changes={"seed": 1})
    made = files(seeded((first, *SEEDS[1:])), tmp_path)
    assert "<img" not in made["index.html"]
    assert "<summary>Recipes</summary>" in made["index.html"]
    section = made["report.md"].split("## Recipes")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| =")]
    assert len(rows) == 4
    assert all(r"\<img src=x onerror=alert(1)\> \| \`a\` \[b\](http\://c)" in row for row in rows)
    assert all(row["recipe"].startswith("'=") for row in lines(made["recipes.csv"]))


@pytest.mark.slow
def test_no_cell_of_either_table_overflows_on_a_phone_or_a_laptop(tmp_path: Path) -> None:
    codes = {("base", "sums", 4096): "RWWWWWWW" * 100}
    codes |= {(f"{run.name}@{samples}", "sums", 4096): "RRRRWWWW" * 100 for run in SEEDS for samples in (50, 100)}
    made = experiment(SEEDS, codes, problems={"sums": 100}, outputs=8)
    path = tmp_path / "index.html"
    path.write_text(files(made, tmp_path / "store")["index.html"])
    with browser(tmp_path / "profile") as shown:
        for width in (390, 1180):
            shown.looks(width, 900, "light")
            shown.open(path)
            shown.ask(OPEN_ALL)
            titles = shown.ask("[...document.querySelectorAll('summary')].map((title) => title.textContent)")
            assert {"Several outputs per problem", "Recipes"} <= set(titles)
            assert shown.ask(WIDER_CELLS) == []
            assert shown.ask(PAGE_WIDTH) <= width
