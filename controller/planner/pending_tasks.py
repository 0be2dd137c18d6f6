"""The tasks that could be made now, the most urgent first, and the grouping of ready units.

Units that need the same engine are grouped into the next task, up to `limits.group_members`. With
`limits.batch_window_seconds` the first of them waits for others. Members under suspicion after a crash are in separate
groups, which are no larger than each of them may join, and do not wait. Groups with older checkpoints come first.
`scheduling` decides whether a running engine takes a task.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from controller.planner.actions import Reason
from controller.planner.evaluations import EvaluationState, progressed
from controller.planner.round import Round
from controller.planner.unit_state import UnitState
from controller.snapshot.types import StoreSnapshot
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.records import CheckpointRecord
from workloads.api.tasks import (
    AdapterSource,
    CheckpointSource,
    GenerateMember,
    GenerateTask,
    GradeMember,
    GradeTask,
    ImportTask,
    ModelSource,
    RunnableTask,
    TrainTask,
)
from workloads.api.units import ExternalInputs, Lora, TrainInputs, UnitRef
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.import_checkpoints import IMPORT
from workloads.stages.train import TRAIN


@dataclass(frozen=True)
class PendingTask:
    """A task that could be made. All its units are ready.

    `batch_until`: until then other units may join its engine, so no engine is started for it. `suspected`: its members
    are under suspicion after a crash, so they join no running engine.
    """

    task: RunnableTask
    why: Reason
    batch_until: datetime | None = None
    suspected: bool = False


def pending_tasks(
    round_: Round, evaluations: Sequence[EvaluationState], unit_states: Mapping[UnitRef, UnitState]
) -> list[PendingTask]:
    """Returns grades first (they are short and complete an evaluation), then generations, then trainings in the spec's
    order.
    """
    return [
        *_grades(round_, evaluations, unit_states),
        *_generations(round_, evaluations, unit_states),
        *_trainings(round_, unit_states),
    ]


def _trainings(round_: Round, unit_states: Mapping[UnitRef, UnitState]) -> Iterable[PendingTask]:
    runs = {train_unit(run): run for run in reversed(round_.experiment.runs)}
    for unit, run in reversed(runs.items()):
        if unit_states[unit].state == "ready" and not run.published:
            number = round_.store.unit(unit).next_number
            stage = IMPORT if isinstance(run.inputs, ExternalInputs) else TRAIN
            message = f"{stage.name} {run.name}, attempt {number}"
            yield PendingTask(_train_task(round_, run, unit, number), Reason("RunReady", message))


def _train_task(round_: Round, run: FrozenRun, unit: UnitRef, number: int) -> RunnableTask:
    if isinstance(run.inputs, TrainInputs):
        assert run.data_source is not None, f"run {run.name} has no data source"
        return TrainTask(
            unit=unit,
            number=number,
            owner=round_.owner,
            created=round_.now,
            inputs=run.inputs,
            base=round_.experiment.base,
            data=run.data_source,
            mixture=run.mixture_sources,
            start=run.start,
            sharding=run.sharding,
        )
    assert run.location is not None, f"run {run.name} has no location"
    return ImportTask(
        unit=unit,
        number=number,
        owner=round_.owner,
        created=round_.now,
        inputs=run.inputs,
        base=round_.experiment.base,
        location=run.location,
        weights=run.weights,
        ready=run.ready,
        expect=() if run.role == "candidate" else run.checkpoints,
    )


def _first_of_ready_units(
    evaluations: Sequence[EvaluationState],
    unit_states: Mapping[UnitRef, UnitState],
    unit_of_evaluation: Callable[[EvaluationState], UnitRef | None],
) -> dict[UnitRef, EvaluationState]:
    """Returns the first evaluation of each ready unit."""
    ready: dict[UnitRef, EvaluationState] = {}
    for evaluation in evaluations:
        unit = unit_of_evaluation(evaluation)
        if unit is not None and unit_states[unit].state == "ready":
            ready.setdefault(unit, evaluation)
    return ready


def _generations(
    round_: Round, evaluations: Sequence[EvaluationState], unit_states: Mapping[UnitRef, UnitState]
) -> Iterable[PendingTask]:
    frozen = round_.experiment
    ready = _first_of_ready_units(evaluations, unit_states, lambda evaluation: evaluation.generate_unit)
    alike = task_groups(ready, lambda unit: _engine_key(ready[unit]), unit_states, frozen.limits.group_members)
    for units in sorted(alike, key=lambda units: _ready_since(frozen, units, ready)):
        members = tuple(_generate_member(ready[unit], round_.store) for unit in units)
        suspected = any(unit_states[unit].retry_state.max_group_size is not None for unit in units)
        task = GenerateTask(
            unit=units[0],
            number=members[0].number,
            owner=round_.owner,
            created=round_.now,
            base=round_.experiment.base,
            members=members,
            idle_timeout_seconds=frozen.limits.idle_timeout_seconds,
            takes_offers=not suspected and frozen.limits.group_members > 1,
            lora_target=lora_target(frozen.runs),
            lora_rank=max((lora.rank for lora in _adapters(frozen.runs)), default=0),
        )
        why = Reason("EvaluationsReady", f"{GENERATE.name} {_listed(ready[unit] for unit in units)}")
        batch_until = None if suspected else _batch_until(frozen, units, ready, evaluations, unit_states)
        yield PendingTask(task, why, batch_until, suspected)


def _batch_until(
    frozen: FrozenExperiment,
    units: Sequence[UnitRef],
    ready: Mapping[UnitRef, EvaluationState],
    evaluations: Sequence[EvaluationState],
    unit_states: Mapping[UnitRef, UnitState],
) -> datetime | None:
    """Returns the end of the batch window of `units`.

    None if waiting has no use: the group is full, or no checkpoint is to come.
    """
    limits = frozen.limits
    if not limits.batch_window_seconds or len(units) >= limits.group_members:
        return None
    if not any(
        evaluation.generate_unit is None and progressed(evaluation, unit_states).state == "waiting"
        for evaluation in evaluations
    ):
        return None
    return _ready_since(frozen, units, ready) + timedelta(seconds=limits.batch_window_seconds)


def _ready_since(
    frozen: FrozenExperiment, units: Sequence[UnitRef], ready: Mapping[UnitRef, EvaluationState]
) -> datetime:
    """Returns the time at which the first of them could have been generated."""
    checkpoints = (ready[unit].checkpoint for unit in units)
    return min(frozen.accepted if marker is None else marker.created for marker in checkpoints)


def lora_target(runs: Sequence[FrozenRun]) -> Literal["attention", "all"]:
    """Returns attention if every run is a training here and no adapter changes another layer, else all."""
    if not all(isinstance(run.inputs, TrainInputs) for run in runs):
        return "all"
    adapters = _adapters(runs)
    return "attention" if adapters and all(lora.target == ("attention",) for lora in adapters) else "all"


def _adapters(runs: Sequence[FrozenRun]) -> list[Lora]:
    """Returns the adapters of the runs that train one."""
    inputs = [run.inputs for run in runs if isinstance(run.inputs, TrainInputs)]
    return [one.lora for one in inputs if one.lora is not None]


def _engine_key(evaluation: EvaluationState) -> str:
    assert evaluation.generate is not None
    return evaluation.generate.model.base


def _generate_member(evaluation: EvaluationState, store: StoreSnapshot) -> GenerateMember:
    assert evaluation.generate is not None
    assert evaluation.generate_unit is not None
    adapter, weights, whole = None, None, None
    checkpoint = evaluation.checkpoint
    if checkpoint is not None:
        record = checkpoint.record
        assert isinstance(record, CheckpointRecord)
        if record.weights == "model" and record.location is None:
            content = evaluation.generate.model.base
            whole = CheckpointSource(unit=checkpoint.unit, marker=checkpoint.name, content=content)
        elif record.weights == "model":
            assert record.location is not None
            weights = ModelSource(location=record.location, content=evaluation.generate.model.base)
        else:
            adapter = AdapterSource(unit=checkpoint.unit, marker=checkpoint.name, content=checkpoint.content)
    return GenerateMember(
        unit=evaluation.generate_unit,
        number=store.unit(evaluation.generate_unit).next_number,
        inputs=evaluation.generate,
        benchmark=evaluation.want.benchmark.source,
        benchmark_name=evaluation.want.benchmark.name,
        adapter=adapter,
        weights=weights,
        checkpoint=whole,
    )


def _grades(
    round_: Round, evaluations: Sequence[EvaluationState], unit_states: Mapping[UnitRef, UnitState]
) -> Iterable[PendingTask]:
    frozen = round_.experiment
    ready = _first_of_ready_units(evaluations, unit_states, lambda evaluation: evaluation.grade_unit)
    for units in task_groups(ready, lambda _: "", unit_states, frozen.limits.group_members):
        members = tuple(_grade_member(ready[unit], round_.store) for unit in units)
        task = GradeTask(
            unit=units[0],
            number=members[0].number,
            owner=round_.owner,
            created=round_.now,
            members=members,
            allow_unsandboxed=frozen.allow_unsandboxed,
        )
        yield PendingTask(task, Reason("OutputsReady", f"{GRADE.name} {_listed(ready[unit] for unit in units)}"))


def _grade_member(evaluation: EvaluationState, store: StoreSnapshot) -> GradeMember:
    assert evaluation.grade is not None
    assert evaluation.grade_unit is not None
    assert evaluation.generate_unit is not None
    return GradeMember(
        unit=evaluation.grade_unit,
        number=store.unit(evaluation.grade_unit).next_number,
        inputs=evaluation.grade,
        outputs=evaluation.generate_unit,
        benchmark=evaluation.want.benchmark.source,
        benchmark_name=evaluation.want.benchmark.name,
    )


def task_groups(
    ready: Iterable[UnitRef], key: Callable[[UnitRef], str], unit_states: Mapping[UnitRef, UnitState], most: int
) -> list[tuple[UnitRef, ...]]:
    """Groups units with the same key and the same largest group size, in order, those without suspicion first."""
    alike: dict[tuple[int, str], list[UnitRef]] = {}
    for unit in ready:
        max_group_size = unit_states[unit].retry_state.max_group_size
        size = most if max_group_size is None else min(max_group_size, most)
        alike.setdefault((size, key(unit)), []).append(unit)
    ordered = sorted(alike.items(), key=lambda group: -group[0][0])
    return [tuple(units[start : start + size]) for (size, _), units in ordered for start in range(0, len(units), size)]


def _listed(evaluations: Iterable[EvaluationState]) -> str:
    names = [evaluation.want.id for evaluation in evaluations]
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
