"""Every evaluation of the experiment, with the units that answer it and its state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.planner.actions import LineState, Reason
from controller.planner.unit_state import UNREADABLE, UnitState
from controller.snapshot.types import StoreSnapshot
from workloads.api.blocked import blocked_by_run
from workloads.api.evaluation_matrix import (
    WantedEvaluation,
    checkpoint_of,
    evaluation_matrix,
    generate_inputs,
    grade_inputs,
    train_unit,
)
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import Marker
from workloads.api.units import GenerateInputs, GradeInputs, UnitRef, unit_of
from workloads.stages.base import Stage
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN
from workloads.words import count_of


@dataclass(frozen=True)
class EvaluationState:
    """`generate` is known after the checkpoint is committed, `grade` after the outputs are committed."""

    want: WantedEvaluation
    train: UnitRef | None
    checkpoint: Marker | None = None
    generate: GenerateInputs | None = None
    generate_unit: UnitRef | None = None
    grade: GradeInputs | None = None
    grade_unit: UnitRef | None = None


@dataclass(frozen=True)
class Progressed:
    """The state of an evaluation, the name of its stage, and the reason."""

    state: LineState
    stage: str
    why: Reason


def resolve_evaluations(frozen: FrozenExperiment, store: StoreSnapshot) -> tuple[EvaluationState, ...]:
    return tuple(_piece(frozen, want, store) for want in evaluation_matrix(frozen, store.markers()))


def _piece(frozen: FrozenExperiment, want: WantedEvaluation, store: StoreSnapshot) -> EvaluationState:
    run = want.model.run
    train, checkpoint = None, None
    if run is not None:
        train = train_unit(run)
        checkpoint = checkpoint_of(want, dict(store.unit(train).markers))
        if checkpoint is None:
            return EvaluationState(want, train)
    generate = generate_inputs(frozen, want, checkpoint)
    generate_unit = unit_of(generate)
    outputs = store.unit(generate_unit).markers.get(GENERATE.final_marker)
    if outputs is None:
        return EvaluationState(want, train, checkpoint, generate, generate_unit)
    grade = grade_inputs(frozen, want, outputs)
    return EvaluationState(want, train, checkpoint, generate, generate_unit, grade, unit_of(grade))


def units_of(frozen: FrozenExperiment, evaluations: Sequence[EvaluationState]) -> tuple[UnitRef, ...]:
    """Returns every unit known so far, each once: trainings, generations, grades."""
    units = [train_unit(run) for run in frozen.runs]
    units += [evaluation.generate_unit for evaluation in evaluations if evaluation.generate_unit is not None]
    units += [evaluation.grade_unit for evaluation in evaluations if evaluation.grade_unit is not None]
    return tuple(dict.fromkeys(units))


def progressed(evaluation: EvaluationState, unit_states: Mapping[UnitRef, UnitState]) -> Progressed:
    if evaluation.generate_unit is None:
        assert evaluation.train is not None
        return _without_checkpoint(evaluation, unit_states[evaluation.train])
    if evaluation.grade_unit is None:
        return _at(GENERATE, unit_states[evaluation.generate_unit])
    unit_state = unit_states[evaluation.grade_unit]
    if unit_state.state == "done":
        return Progressed("done", GRADE.name, Reason("Graded", "its grades are committed"))
    return _at(GRADE, unit_state)


def _without_checkpoint(evaluation: EvaluationState, train: UnitState) -> Progressed:
    samples = evaluation.want.model.samples
    if train.state == "exhausted":
        assert evaluation.want.model.run is not None
        return Progressed(
            "failed", TRAIN.name, Reason(train.why.reason, blocked_by_run(evaluation.want.model.run.name))
        )
    if train.state == "done" and train.why.reason == UNREADABLE:
        return Progressed("failed", TRAIN.name, train.why)
    if train.state == "done":
        message = f"training ended without a checkpoint at {count_of(samples, 'sample')}"
        return Progressed("failed", TRAIN.name, Reason("CheckpointMissing", message))
    run = evaluation.want.model.run
    if run is not None and run.published:
        return Progressed("waiting", TRAIN.name, Reason("NotPublished", f"waits for `potstill publish` of {run.name}"))
    return Progressed(
        "waiting", TRAIN.name, Reason("NoCheckpointYet", f"waits for the checkpoint at {count_of(samples, 'sample')}")
    )


def _at(stage: Stage, unit_state: UnitState) -> Progressed:
    state: LineState = "failed" if unit_state.state == "exhausted" else open_state(unit_state)
    return Progressed(state, stage.name, unit_state.why)


def open_state(unit_state: UnitState) -> LineState:
    """Returns the state of a unit that is neither done nor failed."""
    if unit_state.state != "open":
        return "waiting"
    return "pending" if unit_state.pending else "running"
