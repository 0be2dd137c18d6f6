"""The plan of an experiment: its units, which of them exist already, its data, its cost, and its detectable
differences.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from controller.experiment.profile import Profile
from controller.plan_cost import Cost, Training, cost_of, gpus_of
from controller.plan_memory import PlannedMemory, planned_memory
from controller.planned_gate import PlannedRequirement, planned_gate
from controller.training_data import NotReadableHere, base_folder, read_training_data, thinking_warnings
from workloads.api import store_keys
from workloads.api.evaluation_matrix import (
    WantedEvaluation,
    checkpoint_of,
    evaluation_matrix,
    generate_inputs,
    grade_inputs,
    train_unit,
)
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenRun
from workloads.api.records import DataStatistics, Marker, TrainRecord
from workloads.api.units import TrainInputs, UnitRef, unit_of
from workloads.results.conclusions import Group, planned_levels
from workloads.results.stats.power import detectable_difference
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, read_marker

DISCORDANCES = (0.1, 0.2)
"""Shares of problems on which two models may differ.

In the experiment distill-16-02, checkpoints and base differ on more than the first.
"""


@dataclass(frozen=True)
class PlannedRun:
    """`data`: None if it cannot be read here, for the reason in `note`. `training_tokens` is then an upper bound."""

    run: FrozenRun
    unit: UnitRef
    done: bool
    committed: int
    data: DataStatistics | None
    note: str | None
    training_tokens: int
    tokens_basis: str
    warnings: tuple[str, ...] = ()
    memory: PlannedMemory | None = None


@dataclass(frozen=True)
class PlannedEvaluation:
    """One model on one benchmark, with all its parts. `reused` of `units` parts are graded already."""

    model: str
    benchmark: str
    problems: int
    units: int
    reused: int


@dataclass(frozen=True)
class Detectable:
    """The smallest difference in accuracy that the report can detect, by discordance; None if it can detect none.

    `level`: the significance level of the comparison, its share of the 5% of all comparisons of the report.
    """

    benchmark: str
    compared: str
    problems: int
    outputs_per_problem: int
    level: float
    differences: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Plan:
    runs: tuple[PlannedRun, ...]
    evaluations: tuple[PlannedEvaluation, ...]
    detectable: tuple[Detectable, ...]
    cost: Cost
    gate: tuple[PlannedRequirement, ...] = ()

    @property
    def checkpoints(self) -> int:
        return sum(len(planned.run.checkpoints) for planned in self.runs if planned.run.role == "run")

    @property
    def checkpoint_evaluations(self) -> int:
        return sum(1 for evaluation in self.evaluations if evaluation.model != "base")

    @property
    def base_evaluations(self) -> int:
        return len(self.evaluations) - self.checkpoint_evaluations


def make_plan(
    frozen: FrozenExperiment, store: Store, profile: Profile, price_per_gpu_hour: float | None = None
) -> Plan:
    """Reads the store, and base and data if they are on this machine. Changes nothing. Raises StoreError, BadData.

    `price_per_gpu_hour`: replaces the profile's.
    """
    markers = {train_unit(run): {m.name: m for m in list_markers(store, train_unit(run))} for run in frozen.runs}
    folder = _base_here(frozen)
    runs = tuple(
        replace(_run(frozen, run, markers[train_unit(run)]), memory=planned_memory(run, folder, profile))
        for run in frozen.runs
    )
    wants = evaluation_matrix(frozen, markers)
    graded = {want.id for want in wants if _graded(frozen, store, want, markers)}
    evaluations = tuple(_evaluations(wants, graded))
    outputs_tokens = frozen.sampling.n * frozen.budgets[-1]
    problems = {want.id: len(want.part.problems) for want in wants}
    bound = sum(count for want, count in problems.items() if want not in graded) * outputs_tokens
    trainings = [
        Training(planned.training_tokens, gpus_of(profile.train))
        for planned in runs
        if planned.training_tokens and not planned.done
    ]
    return Plan(
        runs=runs,
        evaluations=evaluations,
        detectable=tuple(_detectable(frozen)),
        cost=cost_of(frozen, profile, trainings, bound, sum(problems.values()) * outputs_tokens, price_per_gpu_hour),
        gate=planned_gate(frozen),
    )


def _base_here(frozen: FrozenExperiment) -> Path | None:
    try:
        return base_folder(frozen.base)
    except NotReadableHere:
        return None


def _run(frozen: FrozenExperiment, run: FrozenRun, markers: dict[str, Marker]) -> PlannedRun:
    names = {store_keys.checkpoint_marker(samples) for samples in run.checkpoints}
    without_marker = run.published or run.role == "candidate"
    done = store_keys.DONE in markers or (without_marker and names <= set(markers))
    committed = len(names & set(markers))
    unit = train_unit(run)
    if not isinstance(run.inputs, TrainInputs):
        note = "trained elsewhere"
        return PlannedRun(run, unit, done, committed, None, note, 0, "nothing is trained")
    bound = run.inputs.samples * run.inputs.sequence_tokens
    record = markers[store_keys.DONE].record if store_keys.DONE in markers else None
    if isinstance(record, TrainRecord) and record.data is not None:
        data = record.data
        return PlannedRun(run, unit, done, committed, data, None, data.total_tokens, "as trained", record.warnings)
    try:
        read, _ = read_training_data(frozen, run)
    except NotReadableHere as reason:
        basis = f"at most: {run.inputs.samples} samples of {run.inputs.sequence_tokens} tokens"
        return PlannedRun(run, unit, done, committed, None, str(reason), bound, basis)
    tokens = read.statistics.total_tokens
    warnings = (*read.warnings, *thinking_warnings(run, read))
    return PlannedRun(run, unit, done, committed, read.statistics, None, tokens, "counted in the data", warnings)


def _graded(
    frozen: FrozenExperiment, store: Store, want: WantedEvaluation, markers: dict[UnitRef, dict[str, Marker]]
) -> bool:
    checkpoint = checkpoint_of(want, markers[train_unit(want.model.run)]) if want.model.run else None
    if want.model.run is not None and checkpoint is None:
        return False
    outputs = read_marker(store, unit_of(generate_inputs(frozen, want, checkpoint)), store_keys.OUTPUTS)
    if outputs is None:
        return False
    return read_marker(store, unit_of(grade_inputs(frozen, want, outputs)), store_keys.GRADES) is not None


def _evaluations(wants: Iterable[WantedEvaluation], graded: set[str]) -> Iterable[PlannedEvaluation]:
    together: dict[tuple[str, str], list[WantedEvaluation]] = {}
    for want in wants:
        together.setdefault((want.model.id, want.benchmark.name), []).append(want)
    for (model, benchmark), parts in together.items():
        yield PlannedEvaluation(
            model=model,
            benchmark=benchmark,
            problems=sum(len(want.part.problems) for want in parts),
            units=len(parts),
            reused=sum(want.id in graded for want in parts),
        )


def _detectable(frozen: FrozenExperiment) -> Iterable[Detectable]:
    """Yields comparisons of last checkpoints: run against run, and run against base."""
    budgets = {run.budget_tokens for run in frozen.runs} | {frozen.budgets[-1]}
    levels = planned_levels(len(frozen.runs), len(frozen.benchmarks), len(budgets))
    outputs = frozen.sampling.n
    for benchmark in frozen.benchmarks:
        for group, compared, problems in _pairs(benchmark):
            if not problems or group not in levels:
                continue
            found = tuple(
                (share, detectable_difference(problems, share, levels[group], outputs_per_problem=outputs))
                for share in DISCORDANCES
            )
            yield Detectable(benchmark.name, compared, problems, outputs, levels[group], found)


def _pairs(benchmark: FrozenBenchmark) -> Iterable[tuple[Group, str, int]]:
    sizes = {part.name: len(part.problems) for part in benchmark.parts}
    yield "best run", "run against run", sum(sizes[name] for name in benchmark.checkpoint_parts)
    shared = (sizes[name] for name in benchmark.checkpoint_parts if name in benchmark.base_parts)
    yield "ends", "run against base", sum(shared)
