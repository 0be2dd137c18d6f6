"""Plots name their axes, distinguish runs without colour, and show the base and the checkpoints on the same
problems.
"""

import json
import re
from importlib.resources import files
from typing import Any

import pytest

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.report.plots import GREY, Plot, plots
from workloads.report.series_styles import COLOURS

RUNS = tuple(MadeRun(name, (100, 200), label=name.title()) for name in ("one", "two", "three"))
CHECKPOINTS = [f"{run.name}@{samples}" for run in RUNS for samples in run.samples]
HALF = "R" * 50 + "w" * 50


def made(base: str = HALF, checkpoint: str = HALF, size: int = 100) -> Manifest:
    """Three runs that are equal at every checkpoint, at two budgets."""
    codes = {("base", "sums", budget): base for budget in (2048, 4096)}
    codes |= {(model, "sums", budget): checkpoint for model in CHECKPOINTS for budget in (2048, 4096)}
    return experiment(RUNS, codes, budgets=(2048, 4096), problems={"sums": size})


def figure(plot: Plot) -> Any:
    return json.loads(plot.data)


def titled(manifest: Manifest, title: str) -> Any:
    return next(figure(plot) for plot in plots(manifest).drawn if plot.title == title)


@pytest.mark.parametrize(
    ("title", "x", "y"),
    [
        ("sums: accuracy against training samples", "Training samples", "Accuracy"),
        ("sums: completion against training samples", "Training samples", "Completion"),
        ("sums: accuracy against the token budget", "Token budget", "Accuracy"),
        ("sums: output lengths", "Output length, tokens", ""),
    ],
)
def test_axes_are_named_as_the_field_names_them(title: str, x: str, y: str) -> None:
    layout = titled(made(), title)["layout"]
    assert layout["xaxis"]["title"]["text"] == x
    assert (layout["yaxis"].get("title") or {}).get("text") in (y, None)


def test_runs_have_a_colour_a_marker_and_a_dash_of_their_own_and_do_not_hide_each_other() -> None:
    lines = [line for line in titled(made(), "sums: accuracy against training samples")["data"] if "customdata" in line]
    assert [line["name"] for line in lines] == ["One", "Two", "Three"]
    for part in (("line", "color"), ("line", "dash"), ("marker", "symbol")):
        assert len({line[part[0]][part[1]] for line in lines}) == 3
    assert len({tuple(line["x"]) for line in lines}) == 3
    assert {tuple(line["customdata"]) for line in lines} == {(100, 200)}


def test_the_base_is_drawn_on_the_problems_that_the_checkpoints_were_asked() -> None:
    """The base has 10% on all 500 problems and 50% on the 100 that all were asked: models are equal, and so are the
    lines.
    """
    manifest = made(base=HALF + "W" * 400, size=500)
    for title in ("sums: accuracy against training samples", "sums: accuracy against the token budget"):
        base = [line for line in titled(manifest, title)["data"] if str(line.get("name", "")).startswith("base")]
        assert {y for line in base if "text" in line for y in line["y"]} == {0.5}


def test_one_run_has_its_name_in_the_legend() -> None:
    codes = {(model, "sums", 4096): HALF for model in ("base", "one@100", "one@200")}
    drawn = titled(experiment(RUNS[:1], codes, problems={"sums": 100}), "sums: accuracy against training samples")
    assert drawn["layout"]["showlegend"] is True


def test_plots_of_a_benchmark_on_which_models_are_equal_are_folded_or_left_out() -> None:
    found = plots(made(base="N" * 100, checkpoint="N" * 50 + "n" * 50))
    assert {plot.title for plot in found.drawn if "accuracy" in plot.title} == set()
    assert all(plot.folded for plot in found.drawn)


def test_a_plot_whose_points_are_all_equal_is_a_sentence() -> None:
    """All complete, and half are right."""
    found = plots(made(base="R" * 50 + "W" * 50, checkpoint="R" * 50 + "W" * 50))
    assert "sums: completion against training samples: 100.0% at every point." in found.notes
    assert not [plot for plot in found.drawn if "completion" in plot.title]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, contrast ratio of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def schemes() -> list[dict[str, str]]:
    """The page's colours by name, light and dark."""
    css = (files("workloads.report") / "templates" / "page.css").read_text()
    roots = re.findall(r":root \{(.*?)\}", css, flags=re.S)
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", root)) for root in roots]


def test_series_can_be_seen_on_the_page_light_and_dark() -> None:
    for scheme in schemes():
        assert [c for c in (*COLOURS, GREY) if contrast(c, scheme["paper"]) < 3] == []


def test_texts_can_be_read_on_every_ground_light_and_dark() -> None:
    light, dark = schemes()
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        inks = [scheme[name] for name in ("ink", "soft", "link", "up", "down", "good", "bad", "warn")]
        grounds = [scheme[name] for name in ("paper", "card", "best")]
        assert [(ink, ground) for ink in inks for ground in grounds if contrast(ink, ground) < 4.5] == []
