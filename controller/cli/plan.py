"""`potstill plan`: what would run, what is reused, what it costs, and what it can tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from controller.cli.common import (
    DEFAULT_STORE,
    ExperimentFile,
    ProfileFile,
    StoreUrl,
    frozen_from,
    profile_from,
    store_or_empty,
    wide_console,
)
from workloads.contract.experiment import FrozenGate
from workloads.contract.units import TrainInputs

if TYPE_CHECKING:
    from controller.plan import Plan, PlannedRun


def plan(path: ExperimentFile, store: StoreUrl = DEFAULT_STORE, profile: ProfileFile = None) -> None:
    """Say what running the file would do, without doing it."""
    from controller.plan import make_plan  # here, because scipy takes its time to load
    from controller.planned_gate import gate_warnings
    from controller.training_checks import check_prompts

    frozen = frozen_from(Path(path), profile)
    check_prompts(frozen)
    with store_or_empty(store) as opened:
        made = make_plan(frozen, opened, profile_from(profile))
    console = wide_console()
    console.print(f"{frozen.name} ({frozen.uid8}), base {frozen.base_name}, engine {frozen.engine.name}")
    console.print(_runs(made))
    for planned in made.runs:
        for line in _data(planned):
            console.print(line)
    console.print(_evaluations(made))
    console.print(
        f"{sum(1 for p in made.runs if p.run.role == 'run')} runs, {made.checkpoints} checkpoints, "
        f"{len(made.evaluations)} evaluations "
        f"({made.checkpoint_evaluations} of checkpoints, {made.base_evaluations} of the base)"
    )
    for line in _cost(made):
        console.print(line)
    console.print(_detectable(made))
    if frozen.gate is not None:
        console.print(_gate(made, frozen.gate))
        for warning in gate_warnings(frozen):
            console.print(f"warning: {warning}", style="yellow", markup=False)


def _runs(made: Plan) -> Table:
    table = Table(title="Runs", title_justify="left")
    for column in ("run", "unit", "samples", "steps", "checkpoints", "tokens", "state"):
        table.add_column(column)
    for planned in made.runs:
        inputs = planned.run.inputs
        trained = inputs if isinstance(inputs, TrainInputs) else None
        table.add_row(
            planned.run.name,
            str(planned.unit),
            f"{trained.samples:,}" if trained else "",
            f"{-(-trained.samples // trained.batch_size):,}" if trained else "",
            ", ".join(f"{count:,}" for count in planned.run.checkpoints),
            f"{planned.training_tokens:,}" if trained else "",
            _state(planned),
        )
    return table


def _state(planned: PlannedRun) -> str:
    if planned.done:
        return "reused"
    return f"goes on: {planned.committed} committed" if planned.committed else "would run"


def _data(planned: PlannedRun) -> list[str]:
    if planned.data is None:
        return [f"{planned.run.name}: {planned.note}; {planned.tokens_basis}"] if planned.note else []
    data, limit = planned.data, planned.data.kept_length_percentiles
    summary = (
        f"{planned.run.name}: {data.rows:,} rows, {data.kept:,} kept, {data.dropped:,} dropped "
        f"({data.dropped / data.rows:.0%}), {data.truncated:,} truncated ({data.truncated / data.rows:.0%}); "
        f"lengths p50 {data.length_percentiles['p50']:,}, p90 {data.length_percentiles['p90']:,}, "
        f"max {data.length_percentiles['max']:,}; kept p50 {limit['p50']:,}, max {limit['max']:,}; "
        f"{data.supervises_think_close:.0%} teach </think>, {data.supervises_end:.0%} teach the end"
    )
    return [summary, *(f"  warning: {warning}" for warning in planned.warnings)]


def _evaluations(made: Plan) -> Table:
    table = Table(title="Evaluations", title_justify="left")
    for column in ("benchmark", "models", "problems each", "reused"):
        table.add_column(column)
    by_size: dict[tuple[str, int], list[tuple[str, bool]]] = {}
    for item in made.evaluations:
        by_size.setdefault((item.benchmark, item.problems), []).append((item.model, item.reused == item.units))
    for (benchmark, problems), models in by_size.items():
        names = "base" if [m for m, _ in models] == ["base"] else f"{len(models)} models"
        table.add_row(benchmark, names, str(problems or "all"), str(sum(reused for _, reused in models)))
    return table


def _cost(made: Plan) -> list[str]:
    lines = [f"at most {made.generated_tokens_bound:,} tokens to generate"]
    if made.training_gpu_hours is not None and made.generation_gpu_hours is not None:
        lines.append(
            f"at most {made.training_gpu_hours:.1f} GPU-hours of training, "
            f"{made.generation_gpu_hours:.1f} of generation"
        )
    return [*lines, f"basis: {made.gpu_hours_basis}"]


def _detectable(made: Plan) -> Table:
    """Each comparison is tested at its share of the 5% that all comparisons of the report have together."""
    shares = [share for share, _ in made.detectable[0].differences] if made.detectable else []
    title = "Smallest difference in accuracy of last checkpoints that the report can find (power 80%)"
    table = Table(title=title, title_justify="left")
    table.add_column("benchmark")
    table.add_column("compared")
    table.add_column("problems")
    table.add_column("tested at")
    for share in shares:
        table.add_column(f"if {share:.0%} of verdicts differ")
    for item in made.detectable:
        outputs = f" x {item.outputs_per_problem} outputs" if item.outputs_per_problem > 1 else ""
        cells = ["none" if found is None else f"{found:.1%}" for _, found in item.differences]
        table.add_row(item.benchmark, item.compared, f"{item.problems}{outputs}", f"p < {item.level:.2g}", *cells)
    return table


def _gate(made: Plan, gate: FrozenGate) -> Table:
    """Chance to pass if nothing changed, by how often verdicts differ all the same."""
    compared = f"{gate.candidate} against {gate.baseline} at {gate.budget_tokens:,} tokens"
    table = Table(title=f"Gate: {compared}; chance to pass if nothing changed", title_justify="left")
    for column in ("requirement", "allowed drop", "problems"):
        table.add_column(column)
    shares = next((item.chances for item in made.gate if item.chances), ())
    for share, _ in shares:
        table.add_column(f"if {share:.0%} of verdicts differ")
    for item in made.gate:
        problems = "not known here" if item.problems is None else str(item.problems)
        outputs = f" x {item.outputs_per_problem} outputs" if item.outputs_per_problem > 1 else ""
        chances = [f"{chance:.0%}" for _, chance in item.chances] or ["never" if item.never else "-"] * len(shares)
        table.add_row(item.name, f"{item.requirement.max_drop:.1%}", problems + outputs, *chances)
    return table
