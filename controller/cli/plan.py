"""`potstill plan`: what would run, what is reused, what it costs, and which differences it can detect."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from controller.cli.common import (
    DEFAULT_STORE,
    ExperimentFile,
    ProfileFile,
    StoreUrl,
    profile_from,
    resolved_from,
    store_or_empty,
    wide_console,
)
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.validate import warning_lines
from controller.terminal import shown
from workloads.api.experiment import FrozenExperiment, FrozenGate
from workloads.api.units import TrainInputs
from workloads.data.files import BadData
from workloads.text.templates import BadTemplate
from workloads.words import count_of

if TYPE_CHECKING:
    from controller.plan import Plan, PlannedRun
    from controller.plan_cost import Cost, Disk
    from controller.validation import Validation


def plan(
    path: ExperimentFile,
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="Of one GPU for an hour, in your currency; default: the profile's.", metavar="PRICE"),
    ] = None,
    json_to: JsonTo = None,
) -> None:
    """Print what the experiment would run, what it would cost, and which differences it could detect. Nothing runs.

    Exit 2 if the file, or a file that it names, is wrong. Example: potstill plan experiment.yaml --price 2.5
    """
    from controller.plan import make_plan  # imported here, because scipy loads slowly
    from controller.validation import validate_contents

    chosen = profile_from(profile)
    loaded, frozen = resolved_from(path, chosen)
    # The plan reads the data too. It stops at the first mistake there; the full validation then lists every one.
    validation = validate_contents(loaded.experiment, frozen, read_data=False)
    try:
        with store_or_empty(store) as opened:
            made = make_plan(frozen, opened, chosen, price)
    except (BadData, BadTemplate):
        validation = validate_contents(loaded.experiment, frozen)
        if not validation.problems:
            raise
    if validation.problems:
        raise loaded.error(validation.problems)
    write_json(json_to, "plan", plan_json(frozen, made, validation))
    if shows_text(json_to):
        _print(frozen, made, validation)


def plan_json(frozen: FrozenExperiment, made: Plan, validation: Validation) -> dict[str, Any]:
    """Returns the JSON document of the plan.

    In `runs`, `committed` is the number of checkpoints in the store, `tokens_basis` says how `trained_tokens` was
    found, and `note` is the reason why `data` is null. In `gate`, `discordance` is a share of problems on which the
    verdicts of two equally good models differ by chance, and `never` is the reason why a candidate that is as good as
    the baseline can never pass; null if it can.
    """
    runs = [
        {
            "name": item.run.name,
            "role": item.run.role,
            "unit": str(item.unit),
            "state": "reused" if item.done else "unfinished" if item.committed else "new",
            "checkpoints": item.run.checkpoints,
            "committed": item.committed,
            "trained_tokens": item.training_tokens,
            "tokens_basis": item.tokens_basis,
            "data": item.data,
            "note": item.note,
            "warnings": item.warnings,
            "memory": item.memory,
        }
        for item in made.runs
    ]
    gate = [
        {
            "requirement": item.requirement,
            "problems": item.problems,
            "outputs_per_problem": item.outputs_per_problem,
            "chances": [{"discordance": share, "pass": chance} for share, chance in item.chances],
            "never": item.never,
        }
        for item in made.gate
    ]
    return {
        "experiment": {"name": frozen.name, "version": frozen.uid8, "base": frozen.base_name},
        "engine": frozen.engine,
        "runs": runs,
        "evaluations": made.evaluations,
        "counts": {
            "checkpoints": made.checkpoints,
            "evaluations": len(made.evaluations),
            "checkpoint_evaluations": made.checkpoint_evaluations,
            "base_evaluations": made.base_evaluations,
        },
        "cost": dataclasses.asdict(made.cost),
        "detectable": made.detectable,
        "gate": gate if frozen.gate is not None else None,
        "warnings": validation.warnings,
        "unchecked": validation.unchecked,
    }


def _print(frozen: FrozenExperiment, made: Plan, validation: Validation) -> None:
    console = wide_console()
    console.print(f"{frozen.name} ({frozen.uid8}), base {frozen.base_name}, engine {frozen.engine.name}")
    console.print(_runs(made))
    for planned in made.runs:
        for line in (*_data(planned), *_memory(planned)):
            console.print(line)
    console.print(_evaluations(made))
    runs = sum(1 for p in made.runs if p.run.role == "run")
    console.print(
        f"{count_of(runs, 'run')}, {count_of(made.checkpoints, 'checkpoint')}, "
        f"{count_of(len(made.evaluations), 'evaluation')} "
        f"({made.checkpoint_evaluations} of checkpoints, {made.base_evaluations} of the base)"
    )
    for line in cost_lines(made.cost):
        console.print(line)
    console.print(_detectable(made))
    if frozen.gate is not None:
        console.print(_gate(made, frozen.gate))
    for line in warning_lines(validation):
        console.print(shown(line, "yellow"))
    warnings = len(validation.warnings) + sum(len(planned.warnings) for planned in made.runs)
    console.print(f"warnings: {warnings}" if warnings else "no warnings")


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
    if not planned.committed:
        return "would run"
    return f"continues: {count_of(planned.committed, 'checkpoint')} committed"


def _data(planned: PlannedRun) -> list[str]:
    if planned.data is None:
        return [f"{planned.run.name}: {planned.note}; {planned.tokens_basis}"] if planned.note else []
    data, kept = planned.data, planned.data.kept_length_percentiles
    summary = (
        f"{planned.run.name}: {count_of(data.rows, 'row')}, {data.kept:,} kept, {data.dropped:,} dropped "
        f"({data.dropped / data.rows:.0%}), {data.truncated:,} truncated ({data.truncated / data.rows:.0%}); "
        f"lengths p50 {data.length_percentiles['p50']:,}, p90 {data.length_percentiles['p90']:,}, "
        f"max {data.length_percentiles['max']:,}; of the kept p50 {kept['p50']:,}, max {kept['max']:,}; "
        f"{data.supervises_think_close:.0%} of the samples teach </think>, {data.supervises_end:.0%} the end token"
    )
    return [summary, *(f"  warning: {warning}" for warning in planned.warnings)]


def _memory(planned: PlannedRun) -> list[str]:
    """Returns a line with the memory of each GPU; none if it is not known or the run is done. The memory is an upper
    bound if only the trainer can decide whether the weights are sharded. The reason in brackets says why they are, or
    are not.
    """
    memory = planned.memory
    if memory is None or planned.done:
        return []
    is_decided = memory.sharded is not None
    size = decimal(memory.per_gpu) if is_decided else f"at most {decimal(memory.per_gpu)}"
    inputs = planned.run.inputs
    is_adapter = isinstance(inputs, TrainInputs) and inputs.lora is not None
    what = "the base's weights" if is_adapter else "weights, gradients and AdamW's moments"
    needed = f"{planned.run.name}: {what} take {size}"
    if memory.gpus == 1:
        return [f"{needed}, without activations"]
    sharded = ", sharded" if memory.sharded else ""
    return [f"{needed} on each of {memory.gpus} GPUs{sharded}, without activations ({memory.reason})"]


def _evaluations(made: Plan) -> Table:
    table = Table(title="Evaluations", title_justify="left")
    for column in ("benchmark", "models", "problems for each model", "reused"):
        table.add_column(column)
    rows: dict[tuple[str, int], list[tuple[str, bool]]] = {}  # (model, reused) by (benchmark, number of problems)
    for item in made.evaluations:
        rows.setdefault((item.benchmark, item.problems), []).append((item.model, item.reused == item.units))
    for (benchmark, problems), models in rows.items():
        names = "base" if [m for m, _ in models] == ["base"] else count_of(len(models), "model")
        # The number is 0 if the benchmark cannot be read before the evaluation.
        table.add_row(benchmark, names, str(problems or "all"), str(sum(reused for _, reused in models)))
    return table


def cost_lines(cost: Cost) -> list[str]:
    """Returns lines for tokens, GPU-hours, wall-clock time, price, basis and disk. Unknown hours have no line."""
    lines = [f"{cost.trained_tokens:,} tokens to train on; at most {cost.generated_tokens:,} tokens to generate"]
    if cost.training_gpu_hours is not None and cost.generation_gpu_hours is not None:
        lines.append(
            f"at most {_hours(cost.training_gpu_hours)} GPU-hours of training, "
            f"{_hours(cost.generation_gpu_hours)} of generation"
        )
    if cost.wall_clock_hours is not None:
        slots = f"{count_of(cost.training_slots, 'training')} and {count_of(cost.evaluation_slots, 'engine')} at a time"
        lines.append(
            f"wall-clock {_hours(cost.wall_clock_hours)} h with {slots}, if generation begins after all training"
        )
    if cost.price is not None:
        lines.append(f"price at most {cost.price:,.2f} at {cost.price_per_gpu_hour:,.2f} per GPU-hour")
    elif cost.price_per_gpu_hour is not None:
        lines.append("price: not known without the GPU-hours")
    return [*lines, f"basis: {cost.basis}", _disk(cost.disk)]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _disk(disk: Disk) -> str:
    base = "base: not on this machine" if disk.base is None else f"base {decimal(disk.base)}"
    if disk.store is None or disk.checkpoints is None or disk.resume_states is None:
        return f"disk: {base}; outputs at most {decimal(disk.outputs)}; checkpoints: not known without the base"
    return (
        f"disk: {base}; store about {decimal(disk.store)} (checkpoints {decimal(disk.checkpoints)}, resume states "
        f"{decimal(disk.resume_states)}, outputs at most {decimal(disk.outputs)})"
    )


def _detectable(made: Plan) -> Table:
    """Returns a table of comparisons and the smallest difference that each can find.

    The significance level of the whole report is 5%. It is divided among all comparisons; "tested at" shows the share
    of this one. The table has one column for each share of problems on which the verdicts of the two models may differ.
    """
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
        cells = [_difference(smallest, item.problems) for _, smallest in item.differences]
        table.add_row(item.benchmark, item.compared, f"{item.problems}{outputs}", f"p < {item.level:.2g}", *cells)
    return table


def _difference(smallest: float | None, problems: int) -> str:
    return f"cannot be detected with {count_of(problems, 'problem')}" if smallest is None else f"{smallest:.1%}"


def _gate(made: Plan, gate: FrozenGate) -> Table:
    """Returns a table of the probability that a candidate of the same accuracy as the baseline passes.

    It has one column for each share of problems on which the two verdicts differ by chance. A cell is "never" if such a
    candidate can never pass, and "-" if the number of problems is not known.
    """
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
