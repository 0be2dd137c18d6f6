"""Units of added stages: one for each committed checkpoint, or for each graded evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.planner.actions import LineState, Reason, StageLine
from controller.planner.evaluations import EvaluationState, open_state, units_of
from controller.planner.pending_tasks import PendingTask
from controller.planner.round import Round
from controller.planner.unit_state import UnitState
from controller.snapshot.types import StoreSnapshot
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import CheckpointRecord, Marker
from workloads.api.tasks import StageTask
from workloads.api.units import StageInputs, UnitRef, unit_of
from workloads.stages.base import Stage
from workloads.stages.grade import GRADE
from workloads.stages.registry import stage_named


@dataclass(frozen=True)
class AddedUnit:
    """One unit of an added stage. `source`: the marker of the result that it reads.

    `name`: the name of the checkpoint or the evaluation, for messages.
    """

    stage: Stage
    source: Marker
    name: str

    @cached_property
    def inputs(self) -> StageInputs:
        return StageInputs(
            stage=self.stage.name,
            stage_version=self.stage.version,
            source=self.source.unit,
            marker=self.source.name,
            content=self.source.content,
        )

    @cached_property
    def unit(self) -> UnitRef:
        return unit_of(self.inputs)


def added_units(
    frozen: FrozenExperiment, evaluations: Sequence[EvaluationState], store: StoreSnapshot
) -> tuple[AddedUnit, ...]:
    """Returns the units whose source is committed, each once. Raises RegistryError as `stage_named`."""
    units: dict[UnitRef, AddedUnit] = {}
    for stage in map(stage_named, frozen.stages):
        sources = _checkpoints(frozen, store) if stage.follows == "checkpoint" else _grades(evaluations, store)
        for source, name in sources:
            added = AddedUnit(stage, source, name)
            units.setdefault(added.unit, added)
    return tuple(units.values())


def all_units(
    frozen: FrozenExperiment, evaluations: Sequence[EvaluationState], store: StoreSnapshot
) -> tuple[UnitRef, ...]:
    """Returns every unit known so far, each once: trainings, generations, grades, then those of added stages.

    Raises RegistryError as `stage_named`.
    """
    return (*units_of(frozen, evaluations), *(added.unit for added in added_units(frozen, evaluations, store)))


def _checkpoints(frozen: FrozenExperiment, store: StoreSnapshot) -> Iterator[tuple[Marker, str]]:
    for run in frozen.runs:
        for marker in store.unit(train_unit(run)).markers.values():
            if isinstance(marker.record, CheckpointRecord):
                yield marker, f"{run.name}@{marker.record.samples}"


def _grades(evaluations: Sequence[EvaluationState], store: StoreSnapshot) -> Iterator[tuple[Marker, str]]:
    for evaluation in evaluations:
        if evaluation.grade_unit is not None:
            marker = store.unit(evaluation.grade_unit).markers.get(GRADE.final_marker)
            if marker is not None:
                yield marker, evaluation.want.id


def pending_added(
    round_: Round, added: Sequence[AddedUnit], unit_states: Mapping[UnitRef, UnitState]
) -> Iterator[PendingTask]:
    """Yields a task for each added unit that is ready."""
    for added_unit in added:
        if unit_states[added_unit.unit].state != "ready":
            continue
        task = StageTask(
            unit=added_unit.unit,
            number=round_.store.unit(added_unit.unit).next_number,
            owner=round_.owner,
            created=round_.now,
            inputs=added_unit.inputs,
        )
        yield PendingTask(
            task, Reason("SourceReady", f"{added_unit.stage.name} {added_unit.name}, attempt {task.number}")
        )


def stage_lines(added: Sequence[AddedUnit], unit_states: Mapping[UnitRef, UnitState]) -> tuple[StageLine, ...]:
    return tuple(_line(added_unit, unit_states[added_unit.unit]) for added_unit in added)


def _line(added: AddedUnit, unit_state: UnitState) -> StageLine:
    states: dict[str, LineState] = {"done": "done", "exhausted": "failed"}
    state = states.get(unit_state.state) or open_state(unit_state)
    return StageLine(added.stage.name, added.name, state, unit_state.why.reason, unit_state.why.message)
