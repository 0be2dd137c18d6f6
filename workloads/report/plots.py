"""The report's plots, as plotly figures: JSON that plotly.js draws in the page."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workloads.api.manifest import Manifest, ManifestModel, ManifestRun
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import percent
from workloads.report.overview import METRIC_NAMES, METRICS
from workloads.report.series_styles import COLOURS, DASHES, SYMBOLS
from workloads.results.base_comparison import row_on
from workloads.results.stats.paired import Metric, problem_codes
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, row_of

GREY = "#838993"
DODGE = 0.018
"""The horizontal distance of series with the same x, per series, as a share of the axis."""
HEIGHT, BOX_HEIGHT, LENGTHS_MARGIN = 320, 24, 90


@dataclass(frozen=True)
class Plot:
    """`title` names both axes. `data` is {"data": [...], "layout": {...}} as JSON; `height` in pixels.

    `folded`: whether all models have the same accuracy on the benchmark (`flat_benchmarks`); the page then shows it on
    demand.
    """

    id: str
    group: str
    title: str
    data: str
    height: int
    folded: bool


@dataclass(frozen=True)
class Plots:
    """`notes`: a sentence for each plot that is left out because all its points are 0% or all 100%.

    Flat benchmarks have no note, because the overview has a sentence on each.
    """

    drawn: tuple[Plot, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Made:
    group: str
    title: str
    benchmark: str | None
    figure: go.Figure
    height: int = HEIGHT
    values: frozenset[float] = frozenset()


@dataclass(frozen=True)
class _Style:
    """The style of a run's series: colour, marker and dashes. `shift` in -0.5..0.5 times the dodge."""

    colour: str
    symbol: str
    dash: str
    shift: float


BASE_STYLE = _Style(GREY, "circle-open", "dash", 0.0)


def plots(manifest: Manifest) -> Plots:
    """Returns the plots that have data, in reading order."""
    made = [*_learning(manifest), *_budgets(manifest), *_lengths(manifest), *_losses(manifest)]
    flat = flat_benchmarks(manifest)
    shown = [one for one in made if one.figure.data]
    constant = [one for one in shown if one.values in ({0.0}, {1.0})]
    drawn = tuple(
        Plot(
            id=f"plot-{index}",
            group=one.group,
            title=one.title,
            data=json.dumps(one.figure.to_plotly_json(), default=list),
            height=one.height,
            folded=one.benchmark in flat,
        )
        for index, one in enumerate(one for one in shown if one not in constant)
    )
    notes = (
        f"{one.title}: {percent(next(iter(one.values)))} at every point."
        for one in constant
        if one.benchmark not in flat
    )
    return Plots(drawn, tuple(notes))


def _styles(manifest: Manifest) -> dict[str, _Style]:
    middle = (len(manifest.runs) - 1) / 2
    return {
        run.name: _Style(COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)], DASHES[i % len(DASHES)], i - middle)
        for i, run in enumerate(manifest.runs)
    }


def _figure(x: str, y: str, *, share: bool = False) -> go.Figure:
    titles = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y, "standoff": 8}, "automargin": True}}
    layout: dict[str, Any] = {**titles}
    layout["margin"] = {"l": 56, "r": 12, "t": 8, "b": 44}
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    layout["hovermode"] = "closest"
    layout["showlegend"] = True
    if share:
        layout["yaxis"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    return go.Figure(layout=go.Layout(layout, template="none"))


def _learning(manifest: Manifest) -> Iterator[_Made]:
    styles = _styles(manifest)
    for benchmark in manifest.benchmarks:
        for metric in METRICS:
            word = METRIC_NAMES[metric]
            figure = _figure("Training samples", word, share=True)
            figure.update_xaxes(tickformat=",d")
            series = {run.name: list(_points(manifest, run, benchmark.name, metric)) for run in manifest.runs}
            widest = max((x for points in series.values() for x, _ in points), default=0)
            for run in manifest.runs:
                _line(figure, run.label, styles[run.name], series[run.name], widest)
            values = _values(series.values())
            if figure.data:
                values |= _base_bands(figure, manifest, benchmark.name, metric, widest)
            title = f"{benchmark.name}: {word.lower()} against training samples"
            yield _Made("Against training samples", title, benchmark.name, figure, values=values)


def _points(manifest: Manifest, run: ManifestRun, benchmark: str, metric: Metric) -> Iterator[tuple[int, Share]]:
    """Yields the checkpoints of a run, each at the budget at which the tables show the run."""
    for model in manifest.models:
        if model.run == run.name and run.role == "run" and model.samples is not None:
            share = _share(row_of(manifest, model, benchmark, model.budget_tokens), metric)
            if share is not None:
                yield model.samples, share


def _values(series: Iterable[Sequence[tuple[int, Share]]]) -> frozenset[float]:
    return frozenset(share.value for points in series for _, share in points if share.value is not None)


def _base_bands(figure: go.Figure, manifest: Manifest, benchmark: str, metric: Metric, widest: int) -> frozenset[float]:
    """Draws the base at each budget of a run, on the runs' problems: a line and its interval.

    Returns the drawn values.
    """
    budgets = sorted({model.budget_tokens for model in manifest.models if model.run is not None})
    drawn = set()
    for index, budget in enumerate(budgets):
        share = _base_share(manifest, benchmark, budget, metric)
        if share is None or share.interval is None or share.value is None:
            continue
        name = f"base at {budget:,} tokens"
        low, high = share.interval
        left, right = -widest * 0.02, widest * 1.02
        band = {"fill": "toself", "fillcolor": "rgba(131,137,147,0.15)", "line": {"width": 0}, "hoverinfo": "skip"}
        corners = {"x": [left, right, right, left], "y": [low, low, high, high]}
        figure.add_scatter(**corners, mode="lines", legendgroup=name, showlegend=False, **band)
        figure.add_scatter(
            x=[left, right],
            y=[share.value] * 2,
            mode="lines",
            name=name,
            legendgroup=name,
            line={"color": GREY, "width": 1.5, "dash": ("dash", "dot", "dashdot")[index % 3]},
            text=[str(share)] * 2,
            hovertemplate="%{text}<extra>" + name + "</extra>",
        )
        drawn.add(share.value)
    return frozenset(drawn)


def _base_share(manifest: Manifest, benchmark: str, budget: int, metric: Metric) -> Share | None:
    """Returns the base's share on the problems of all graded checkpoints and candidates; on all its problems
    if there are none.
    """
    base = next(model for model in manifest.models if model.kind == "base")
    codes = (problem_codes(manifest, m.id, benchmark, budget) for m in manifest.models if m.kind != "base")
    others = [own for own in codes if own]
    own = problem_codes(manifest, base.id, benchmark, budget)
    shared = [problem for problem in own if all(problem in other for other in others)]
    return _share(row_on(manifest, base, benchmark, budget, shared), metric)


def _budgets(manifest: Manifest) -> Iterator[_Made]:
    """Draws the base, each run's last graded checkpoint, and the candidates."""
    if len(manifest.budgets) < 2:
        return
    styles = _styles(manifest)
    for benchmark in manifest.benchmarks:
        for metric in METRICS:
            word = METRIC_NAMES[metric]
            figure = _figure("Token budget", word, share=True)
            figure.update_xaxes(tickvals=manifest.budgets, tickformat=",d")
            series = [
                (
                    model,
                    [(b, s) for b in manifest.budgets if (s := _at_budget(manifest, model, benchmark.name, b, metric))],
                )
                for model in _last(manifest, benchmark.name)
            ]
            for model, points in series:
                style = styles.get(model.run or "", BASE_STYLE)
                _line(figure, model.id, style, points, manifest.budgets[-1] - manifest.budgets[0])
            values = _values(points for _, points in series)
            title = f"{benchmark.name}: {word.lower()} against the token budget"
            yield _Made("Against the token budget, last checkpoints", title, benchmark.name, figure, values=values)


def _at_budget(manifest: Manifest, model: ManifestModel, benchmark: str, budget: int, metric: Metric) -> Share | None:
    if model.kind == "base":
        return _base_share(manifest, benchmark, budget, metric)
    return _share(row_of(manifest, model, benchmark, budget), metric)


def _last(manifest: Manifest, benchmark: str) -> list[ManifestModel]:
    graded = {e.model for e in manifest.evaluations if e.benchmark == benchmark and e.budgets}
    last: dict[str, ManifestModel] = {}
    for model in manifest.models:
        if model.id in graded:
            last[model.run or model.id] = model
    return list(last.values())


def _line(figure: go.Figure, name: str, style: _Style, points: Sequence[tuple[int, Share]], span: int) -> None:
    """Points of several series with the same x are drawn side by side; the label shows the true x."""
    if not points:
        return
    shares = [share for _, share in points]
    spans = [share.interval or (0.0, 0.0) for share in shares]
    values = [share.value or 0.0 for share in shares]
    figure.add_scatter(
        x=[x + style.shift * DODGE * span for x, _ in points],
        y=values,
        mode="lines+markers",
        name=name,
        line={"color": style.colour, "width": 2, "dash": style.dash},
        marker={"size": 8, "symbol": style.symbol},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(spans, values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(spans, values, strict=True)],
            "thickness": 1,
            "width": 3,
        },
        customdata=[x for x, _ in points],
        text=[str(share) for share in shares],
        hovertemplate="%{text} at %{customdata:,}",
    )


def _share(row: TableRow | None, metric: Metric) -> Share | None:
    if row is None:
        return None
    share = row.accuracy if metric == "accuracy" else row.completed
    return share if share.n else None


def _lengths(manifest: Manifest) -> Iterator[_Made]:
    """Draws a box of output lengths for each model, and the budgets as lines.

    Generation stops at the largest budget.
    """
    styles = _styles(manifest)
    for benchmark in manifest.benchmarks:
        figure = _figure("Output length, tokens", "")
        names = []
        longest = manifest.budgets[-1]
        for model in manifest.models:
            tokens = [
                t
                for e in manifest.evaluations
                if (e.model, e.benchmark) == (model.id, benchmark.name)
                for t in e.tokens
            ]
            if tokens:
                low, first, median, third, high = (float(q) for q in np.quantile(tokens, [0, 0.25, 0.5, 0.75, 1]))
                names.append(model.id)
                longest = max(longest, *tokens)
                figure.add_box(
                    y=[model.id],
                    q1=[first],
                    median=[median],
                    q3=[third],
                    lowerfence=[low],
                    upperfence=[high],
                    orientation="h",
                    name=model.id,
                    marker={"color": styles.get(model.run or "", BASE_STYLE).colour},
                    line={"width": 1.5},
                    showlegend=False,
                )
        figure.update_yaxes(
            categoryorder="array", categoryarray=names[::-1], title=None, type="category", tickmode="linear"
        )
        figure.update_xaxes(range=[0, longest * 1.04], tickformat=",d")
        figure.update_layout(margin={"t": 24}, showlegend=False)
        for budget in manifest.budgets if names else ():
            note = {"annotation_text": f"budget {budget:,}", "annotation_position": "top left", "annotation_yshift": 18}
            figure.add_vline(x=budget, line={"color": GREY, "dash": "dash", "width": 1}, **note)
        height = LENGTHS_MARGIN + BOX_HEIGHT * max(3, len(names))
        yield _Made("Output lengths", f"{benchmark.name}: output lengths", benchmark.name, figure, height)


def _losses(manifest: Manifest) -> Iterator[_Made]:
    """Draws the training loss of each run, and the validation loss at its checkpoints if there is one."""
    styles = _styles(manifest)
    figure = _figure("Training samples", "Loss, nats per supervised token")
    figure.update_xaxes(tickformat=",d")
    for run in manifest.runs:
        style = styles[run.name]
        if run.losses:
            figure.add_scatter(
                x=[point.samples for point in run.losses],
                y=[point.loss for point in run.losses],
                mode="lines+markers" if len(run.losses) < 10 else "lines",
                name=run.label,
                line={"color": style.colour, "width": 1.5, "dash": style.dash},
                marker={"symbol": style.symbol},
            )
        held = [model for model in manifest.models if model.run == run.name and model.validation_loss is not None]
        if held:
            figure.add_scatter(
                x=[model.samples for model in held],
                y=[model.validation_loss for model in held],
                mode="markers",
                name=f"{run.label}, validation",
                marker={"color": style.colour, "symbol": f"{style.symbol}-open", "size": 9},
            )
    yield _Made("Training loss", "Training loss against training samples", None, figure)
