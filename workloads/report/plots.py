"""The report's plots, as plotly figures: JSON that plotly.js draws in the page."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from workloads.contract.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.results.statistics import Share
from workloads.results.tables import row_of

COLOURS = ("#3b7dd8", "#e07b39", "#2a9d6f", "#b0489a", "#8a6fd1", "#c2a000", "#4aa8b8", "#c4504d")
GREY = "#8a8f98"


@dataclass(frozen=True)
class Plot:
    """`title` stands above the plot and names both axes. `data` is {"data": [...], "layout": {...}} as JSON."""

    id: str
    group: str
    title: str
    data: str


def plots(manifest: Manifest) -> tuple[Plot, ...]:
    """Those that have something to show, in reading order."""
    made = [*_learning(manifest), *_budgets(manifest), *_lengths(manifest), *_losses(manifest)]
    return tuple(
        Plot(f"plot-{index}", group, title, json.dumps(figure.to_plotly_json(), default=list))
        for index, (group, title, figure) in enumerate(made)
        if figure.data
    )


def _colours(manifest: Manifest) -> dict[str, str]:
    return {run.name: COLOURS[index % len(COLOURS)] for index, run in enumerate(manifest.runs)}


def _figure(x: str, y: str, *, share: bool = False) -> go.Figure:
    layout: dict[str, Any] = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    layout["margin"] = {"l": 56, "r": 12, "t": 8, "b": 44}
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    layout["hovermode"] = "closest"
    if share:
        layout["yaxis"] |= {"range": [-0.02, 1.02], "tickformat": ".0%"}
    return go.Figure(layout=go.Layout(layout, template="none"))


def _learning(manifest: Manifest) -> Iterable[tuple[str, str, go.Figure]]:
    for benchmark in manifest.benchmarks:
        for metric, word in (("accuracy", "right"), ("completed", "completed")):
            figure = _figure("samples", word, share=True)
            for run in manifest.runs:
                points = [
                    (model, share)
                    for model in manifest.models
                    if model.run == run.name and run.role == "run" and model.samples is not None
                    if (share := _share(manifest, model, benchmark.name, model.budget_tokens, metric)) is not None
                ]
                _line(figure, run.label, _colours(manifest)[run.name], [(m.samples, s) for m, s in points])
            if figure.data:
                _base_bands(figure, manifest, benchmark.name, metric)
            yield "against samples", f"{benchmark.name}: {word}, against samples", figure


def _base_bands(figure: go.Figure, manifest: Manifest, benchmark: str, metric: str) -> None:
    """The base at each budget that a run is shown at: a line and its 95% interval."""
    base = next(model for model in manifest.models if model.kind == "base")
    budgets = sorted({model.budget_tokens for model in manifest.models if model.run is not None})
    widest = max(x for line in figure.data for x in line.x)
    for index, budget in enumerate(budgets):
        share = _share(manifest, base, benchmark, budget, metric)
        if share is None or share.interval is None:
            continue
        name = f"base at {budget:,}"
        low, high = share.interval
        band = {"fill": "toself", "fillcolor": "rgba(138,143,152,0.16)", "line": {"width": 0}, "hoverinfo": "skip"}
        corners = {"x": [0, widest, widest, 0], "y": [low, low, high, high]}
        figure.add_scatter(**corners, mode="lines", legendgroup=name, showlegend=False, **band)
        figure.add_scatter(
            x=[0, widest],
            y=[share.value] * 2,
            mode="lines",
            name=name,
            legendgroup=name,
            line={"color": GREY, "width": 1.5, "dash": ("dash", "dot", "dashdot")[index % 3]},
            text=[str(share)] * 2,
            hovertemplate="%{text}<extra>" + name + "</extra>",
        )


def _budgets(manifest: Manifest) -> Iterable[tuple[str, str, go.Figure]]:
    """The base, each run's last checkpoint that is graded, and the candidates."""
    if len(manifest.budgets) < 2:
        return
    for benchmark in manifest.benchmarks:
        for metric, word in (("accuracy", "right"), ("completed", "completed")):
            figure = _figure("budget, tokens", word, share=True)
            figure.update_xaxes(tickvals=manifest.budgets, tickformat=",d")
            for model in _last(manifest, benchmark.name):
                points = [
                    (budget, share)
                    for budget in manifest.budgets
                    if (share := _share(manifest, model, benchmark.name, budget, metric)) is not None
                ]
                _line(figure, model.label, _colours(manifest).get(model.run or "", GREY), points)
            yield "against the budget", f"{benchmark.name}: {word}, against the token budget (last checkpoints)", figure


def _last(manifest: Manifest, benchmark: str) -> list[ManifestModel]:
    graded = {e.model for e in manifest.evaluations if e.benchmark == benchmark and e.budgets}
    last: dict[str, ManifestModel] = {}
    for model in manifest.models:
        if model.id in graded:
            last[model.run or model.id] = model
    return list(last.values())


def _line(figure: go.Figure, name: str, colour: str, points: list[tuple[Any, Share]]) -> None:
    if not points:
        return
    shares = [share for _, share in points]
    spans = [share.interval or (0.0, 0.0) for share in shares]
    values = [share.value or 0.0 for share in shares]
    figure.add_scatter(
        x=[x for x, _ in points],
        y=values,
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 2},
        marker={"size": 7},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(spans, values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(spans, values, strict=True)],
            "thickness": 1,
            "width": 3,
        },
        text=[str(share) for share in shares],
        hovertemplate="%{text}<extra>%{x:,}</extra>",
    )


def _share(manifest: Manifest, model: ManifestModel, benchmark: str, budget: int, metric: str) -> Share | None:
    row = row_of(manifest, model, benchmark, budget)
    share: Share | None = getattr(row, metric) if row is not None else None
    return share if share is not None and share.n else None


def _lengths(manifest: Manifest) -> Iterable[tuple[str, str, go.Figure]]:
    """A box of output lengths per model, with the budgets as lines: what stands at the limit was cut there."""
    for benchmark in manifest.benchmarks:
        figure = _figure("", "output, tokens")
        figure.update_layout(margin={"r": 52})
        for model in manifest.models:
            tokens = [token for e in _evaluations(manifest, model, benchmark.name) for token in e.tokens]
            if not tokens:
                continue
            step = model.step if model.kind == "checkpoint" else None
            figure.add_box(
                y=tokens,
                name=model.label if step is None else f"{model.label} {step}",
                marker={"color": _colours(manifest).get(model.run or "", GREY), "size": 3},
                line={"width": 1},
                boxpoints=False,
                showlegend=False,
            )
        for budget in manifest.budgets:
            note = {"annotation_text": f"{budget:,}", "annotation_position": "right"}
            figure.add_hline(y=budget, line={"color": GREY, "dash": "dash", "width": 1}, **note)
        yield "output lengths", f"{benchmark.name}: lengths of outputs against the budgets", figure


def _evaluations(manifest: Manifest, model: ManifestModel, benchmark: str) -> list[ManifestEvaluation]:
    return [e for e in manifest.evaluations if e.model == model.id and e.benchmark == benchmark]


def _losses(manifest: Manifest) -> Iterable[tuple[str, str, go.Figure]]:
    figure = _figure("samples", "loss, nats per supervised token")
    for run in manifest.runs:
        if run.losses:
            figure.add_scatter(
                x=[point.samples for point in run.losses],
                y=[point.loss for point in run.losses],
                mode="lines",
                name=run.label,
                line={"color": _colours(manifest)[run.name], "width": 1.5},
            )
    yield "training loss", "training loss, against samples", figure
