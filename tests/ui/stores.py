"""Stores for the page's tests: committed through the project's own writers, with hostile text in all texts."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.accept import accept
from controller.planner.evaluations import EvaluationState, resolve_evaluations, units_of
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import StoreSnapshot
from tests.controller.experiments import experiment, run
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.grades import Grade
from workloads.api.model import sha256_of
from workloads.api.records import (
    BudgetCounts,
    CheckpointRecord,
    GradesRecord,
    Output,
    OutputsRecord,
    Progress,
    Record,
    StateRecord,
    TrainRecord,
)
from workloads.api.tasks import Owner, TrainTask
from workloads.api.units import TrainInputs, UnitRef
from workloads.results.manifest import EvaluationPart as PieceState
from workloads.results.manifest import EvaluationParts, fold
from workloads.storage.base import Store
from workloads.storage.markers import commit_marker

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {{ 7 * 7 }}"
LABEL = "<b>Math</b> <img src=x onerror=\"document.title='owned'\">"


def two_runs(uid8: str = "aaaa0000", *, name: str = "distill", days: int = 0, seed: int = 16) -> FrozenExperiment:
    """Two runs of two checkpoints each on one benchmark; the base is asked five problems, a checkpoint two."""
    runs = (run("first", (50, 100), seed), run("second", (50, 100), seed))
    frozen = experiment(runs, ("sums",), name=name, uid8=uid8)
    labelled = tuple(one.model_copy(update={"label": f"{LABEL} {one.name}"}) for one in frozen.runs)
    return frozen.model_copy(
        update={"accepted": NOW - timedelta(days=days), "runs": labelled, "base_name": f"{HOSTILE} base"}
    )


def write(store: Store, frozen: FrozenExperiment, *, state: str = "succeeded") -> None:
    """Writes the results of all units, as if it had run: every second problem is right, and the second run is right on
    each.
    """
    accept(frozen, store)
    for one in frozen.runs:
        train(store, frozen, one.name)
    for piece in seen_pieces(store, frozen):
        generate(store, piece)
    for piece in seen_pieces(store, frozen):
        grade(store, frozen, piece)
    write_manifest(store, frozen, state)


def seen_pieces(store: Store, frozen: FrozenExperiment) -> tuple[EvaluationState, ...]:
    seen = SnapshotReader(store).read(frozen, None)
    assert isinstance(seen, StoreSnapshot)
    return resolve_evaluations(frozen, seen)


def write_manifest(store: Store, frozen: FrozenExperiment, state: str = "running") -> None:
    pieces = seen_pieces(store, frozen)
    states = {one.want.id: PieceState("waiting") for one in pieces}
    folded = fold(frozen, store, EvaluationParts(state, {}, states))  # type: ignore[arg-type]
    store.put(store_keys.manifest_key(frozen.name, frozen.uid8), folded.manifest.to_json())


def train(store: Store, frozen: FrozenExperiment, name: str) -> None:
    one = next(item for item in frozen.runs if item.name == name)
    unit = train_unit(one)
    for samples in one.checkpoints:
        files = {"adapter_model.safetensors": f"{name} {frozen.uid8} {samples}", "adapter_config.json": "{}"}
        record = CheckpointRecord(samples=samples, step=samples // 50, validation_loss=1.0 / samples)
        commit(store, unit, store_keys.checkpoint_marker(samples), files, record)
    done = TrainRecord(
        samples=one.checkpoints[-1], steps=2, data=None, final_loss=0.5, train_seconds=9.0, tokens_per_second=1e3,
        device="cpu", devices=1, versions={}, warnings=(f"EndNotTaught: {HOSTILE}",),
    )  # fmt: skip
    commit(store, unit, store_keys.DONE, {"metrics.jsonl": metrics(2)}, done)


def metrics(steps: int) -> str:
    rows = ({"step": s, "samples": 50 * s, "loss": 2.0 / s, "learningRate": 1e-4} for s in range(1, steps + 1))
    return "".join(json.dumps(row) + "\n" for row in rows)


def generate(store: Store, piece: EvaluationState) -> None:
    assert piece.generate is not None
    assert piece.generate_unit is not None
    rows = [
        Output(
            problem=problem, prompt_sha256=sha256_of(problem.encode()), prompt_tokens=3, token_ids=(1, 2, 3),
            text=f"{piece.want.id} of {piece.generate.model.adapter} says {HOSTILE} of {problem}", finish_reason="stop",
        )
        for problem in piece.generate.problems
    ]  # fmt: skip
    record = OutputsRecord(
        engine=piece.generate.engine, outputs=len(rows), generated_tokens=3 * len(rows), finish_reasons={"stop": 1},
        prompts_sha256=sha256_of(b"prompts"), tokenizer_sha256=sha256_of(b"tokenizer"), seconds=1.0, versions={},
    )  # fmt: skip
    text = "".join(row.to_json().decode() for row in rows)
    commit(store, piece.generate_unit, store_keys.OUTPUTS, {"outputs.jsonl": text}, record)


def grade(store: Store, frozen: FrozenExperiment, piece: EvaluationState) -> None:
    assert piece.grade_unit is not None
    problems = piece.want.part.problems
    all_right = piece.want.model.run is not None and piece.want.model.run.name == "second"
    right = [problem for index, problem in enumerate(problems) if all_right or index % 2 == 0]
    grades = [
        Grade(
            problem=problem, budget_tokens=budget, tokens=3, ended=True, completed=True, answer=HOSTILE,
            verdict="right" if problem in right else "wrong", cause=None if problem in right else "different_answer",
            evidence={"gold<b>": HOSTILE},
        )
        for budget in frozen.budgets
        for problem in problems
    ]  # fmt: skip
    counts = tuple(
        BudgetCounts(
            budget=budget, outputs=len(problems), completed=len(problems), right=len(right),
            right_and_completed=len(right), wrong=len(problems) - len(right), no_answer=0, errors=0,
            causes={"different_answer": len(problems) - len(right)} if len(right) < len(problems) else {},
        )
        for budget in frozen.budgets
    )  # fmt: skip
    record = GradesRecord(budgets=counts, grader_version="grade-2", seconds=1.0, versions={"python": "3.11.7"})
    text = "".join(one.to_json().decode() for one in grades)
    commit(store, piece.grade_unit, store_keys.GRADES, {"grades.jsonl": text}, record)


def commit(store: Store, unit: UnitRef, name: str, files: Mapping[str, str], record: Record) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {file: Path(folder) / file for file in files}
        for file, path in paths.items():
            path.write_text(files[file])
        commit_marker(store, unit, 1, name, paths, record, now=NOW)


def start_training(store: Store, frozen: FrozenExperiment) -> UnitRef:
    """Writes the task of the first run, like a controller before the trainer starts."""
    one = frozen.runs[0]
    assert isinstance(one.inputs, TrainInputs)
    assert one.data_source is not None
    unit = train_unit(one)
    task = TrainTask(
        unit=unit, number=1, owner=Owner(experiment=frozen.name, uid8=frozen.uid8), created=datetime.now(UTC),
        inputs=one.inputs, base=frozen.base, data=one.data_source,
    )  # fmt: skip
    store.put_new(task.key, task.to_json())
    return unit


def tell(store: Store, unit: UnitRef, step: int, loss: float, total: int = 40) -> None:
    """Writes progress like a trainer."""
    progress = Progress(
        attempt=1, updated=datetime.now(UTC), phase="training", done=step, total=total, counted="steps", loss=loss,
        tokens_per_second=1234.0, eta_seconds=75.0,
    )  # fmt: skip
    store.put(store_keys.progress_key(unit, 1), progress.to_json())


def save_state(store: Store, unit: UnitRef, step: int) -> None:
    commit(
        store,
        unit,
        store_keys.state_marker(step),
        {"metrics.jsonl": metrics(step)},
        StateRecord(step=step, samples=step),
    )


def units_in(store: Store, frozen: FrozenExperiment) -> tuple[UnitRef, ...]:
    return units_of(frozen, seen_pieces(store, frozen))
