"""Every wanted evaluation with the units that answer it so far, and where it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.decide.actions import PieceState, Why
from controller.decide.standing import UNREADABLE, Standing
from controller.view import StoreView
from workloads.contract import layout
from workloads.contract.blocked import blocked_by_run
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.records import Marker
from workloads.contract.units import GenerateInputs, GradeInputs, UnitRef, unit_of
from workloads.contract.wanted import (
    Wanted,
    checkpoint_of,
    generate_inputs,
    grade_inputs,
    train_unit,
    wanted,
)


@dataclass(frozen=True)
class Piece:
    """`generate` is known once the checkpoint is committed, `grade` once the outputs are."""

    want: Wanted
    train: UnitRef | None
    checkpoint: Marker | None = None
    generate: GenerateInputs | None = None
    generate_unit: UnitRef | None = None
    grade: GradeInputs | None = None
    grade_unit: UnitRef | None = None


@dataclass(frozen=True)
class Progressed:
    """Where a piece stands, at which stage, and why."""

    state: PieceState
    stage: Literal["train", "generate", "grade"]
    why: Why


def resolve_pieces(frozen: FrozenExperiment, store: StoreView) -> tuple[Piece, ...]:
    return tuple(_piece(frozen, want, store) for want in wanted(frozen, store.markers()))


def _piece(frozen: FrozenExperiment, want: Wanted, store: StoreView) -> Piece:
    run = want.model.run
    train, checkpoint = None, None
    if run is not None:
        train = train_unit(run)
        checkpoint = checkpoint_of(want, dict(store.unit(train).markers))
        if checkpoint is None:
            return Piece(want, train)
    generate = generate_inputs(frozen, want, checkpoint)
    generate_unit = unit_of(generate)
    outputs = store.unit(generate_unit).markers.get(layout.OUTPUTS)
    if outputs is None:
        return Piece(want, train, checkpoint, generate, generate_unit)
    grade = grade_inputs(frozen, want, outputs)
    return Piece(want, train, checkpoint, generate, generate_unit, grade, unit_of(grade))


def units_of(frozen: FrozenExperiment, pieces: Sequence[Piece]) -> tuple[UnitRef, ...]:
    """Every unit known so far, each once: trainings, generations, grades."""
    found = [train_unit(run) for run in frozen.runs]
    found += [piece.generate_unit for piece in pieces if piece.generate_unit is not None]
    found += [piece.grade_unit for piece in pieces if piece.grade_unit is not None]
    return tuple(dict.fromkeys(found))


def progressed(piece: Piece, standings: Mapping[UnitRef, Standing]) -> Progressed:
    if piece.generate_unit is None:
        assert piece.train is not None
        return _without_checkpoint(piece, standings[piece.train])
    if piece.grade_unit is None:
        return _at("generate", standings[piece.generate_unit])
    standing = standings[piece.grade_unit]
    if standing.state == "done":
        return Progressed("done", "grade", Why("Graded", "its grades are committed"))
    return _at("grade", standing)


def _without_checkpoint(piece: Piece, train: Standing) -> Progressed:
    samples = piece.want.model.samples
    if train.state == "exhausted":
        assert piece.want.model.run is not None
        return Progressed("failed", "train", Why(train.why.reason, blocked_by_run(piece.want.model.run.name)))
    if train.state == "done" and train.why.reason == UNREADABLE:
        return Progressed("failed", "train", train.why)
    if train.state == "done":
        message = f"training ended without a checkpoint at {samples} samples"
        return Progressed("failed", "train", Why("CheckpointMissing", message))
    run = piece.want.model.run
    if run is not None and run.published:
        return Progressed("waiting", "train", Why("NotPublished", f"waits for `potstill publish` of {run.name}"))
    return Progressed("waiting", "train", Why("NoCheckpointYet", f"waits for the checkpoint at {samples} samples"))


def _at(stage: Literal["generate", "grade"], standing: Standing) -> Progressed:
    state: PieceState = "failed" if standing.state == "exhausted" else open_state(standing)
    return Progressed(state, stage, standing.why)


def open_state(standing: Standing) -> PieceState:
    """Of what is neither done nor failed."""
    if standing.state != "open":
        return "waiting"
    return "pending" if standing.pending else "running"
