"""Makes the manifest from an experiment's records: the same records give the same bytes.

Records do not show whether a missing result is still expected, so the caller passes it as `EvaluationParts`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workloads.api import store_keys
from workloads.api.evaluation_matrix import (
    Model,
    WantedEvaluation,
    checkpoint_of,
    evaluation_matrix,
    generate_inputs,
    grade_inputs,
    models,
    train_unit,
)
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenRun
from workloads.api.grade_counts import counts, differences
from workloads.api.grades import COMPARED, Grade
from workloads.api.manifest import (
    BudgetVerdicts,
    LossPoint,
    Manifest,
    ManifestBenchmark,
    ManifestEvaluation,
    ManifestModel,
    ManifestRun,
    UnitState,
)
from workloads.api.records import CheckpointRecord, GradesRecord, Marker, Output, OutputsRecord, TrainRecord
from workloads.api.units import TrainInputs, UnitRef, unit_of
from workloads.graders.registry import GRADERS
from workloads.registry import RegistryError
from workloads.storage.base import Store
from workloads.storage.markers import Corrupt, list_markers, read_file
from workloads.words import count_of

LOSS_POINTS = 200
METRICS = "metrics.jsonl"
FINISH_CODES = {"stop": "s", "length": "l", "error": "e"}
ExperimentState = Literal["running", "succeeded", "partially_failed", "failed"]


@dataclass(frozen=True)
class EvaluationPart:
    """The state of a run or an evaluation without a committed result, and the reason."""

    state: UnitState
    reason: str | None = None


@dataclass(frozen=True)
class EvaluationParts:
    """By run name and by `Wanted.id`. Anything that is not listed is waiting."""

    state: ExperimentState = "running"
    runs: Mapping[str, EvaluationPart] = field(default_factory=dict)
    evaluations: Mapping[str, EvaluationPart] = field(default_factory=dict)


class Contradiction(Exception):
    """A marker and its files are undamaged, but contradict each other."""


@dataclass(frozen=True)
class Fold:
    """`corrupt`: the reason, by `Wanted.id`, for evaluations whose committed files are missing or differ."""

    manifest: Manifest
    corrupt: Mapping[str, str]


def fold(frozen: FrozenExperiment, store: Store, pieces: EvaluationParts) -> Fold:
    """Makes the manifest from all committed results, and the given states of the others. A damaged result fails alone.

    Raises StoreError.
    """
    markers = {train_unit(run): _by_name(store, train_unit(run)) for run in frozen.runs}
    corrupt: dict[str, str] = {}
    manifest = Manifest(
        experiment=frozen.name,
        uid8=frozen.uid8,
        spec_sha256=frozen.spec_sha256,
        state=pieces.state,
        base_name=frozen.base_name,
        base_content=frozen.base.content,
        sampling=frozen.sampling,
        budgets=frozen.budgets,
        runs=tuple(_run(store, run, markers[train_unit(run)], pieces) for run in frozen.runs),
        models=tuple(_model(frozen, model, markers, pieces) for model in models(frozen, markers)),
        benchmarks=tuple(_benchmark(benchmark) for benchmark in frozen.benchmarks),
        evaluations=tuple(
            _evaluation(frozen, store, want, markers, pieces, corrupt) for want in evaluation_matrix(frozen, markers)
        ),
        gate=frozen.gate,
    )
    return Fold(without_corrupt(manifest, corrupt), corrupt)


def without_corrupt(manifest: Manifest, corrupt: Mapping[str, str]) -> Manifest:
    """Returns the manifest with `corrupt` evaluations, by id, failed for the given reason: their verdicts do not
    count.
    """
    if not corrupt:
        return manifest
    evaluations = tuple(
        e.model_copy(update={"state": "failed", "reason": corrupt[e.id], "budgets": ()}) if e.id in corrupt else e
        for e in manifest.evaluations
    )
    state: ExperimentState = manifest.state
    if state in {"succeeded", "partially_failed"}:
        state = "partially_failed" if any(e.state == "done" for e in evaluations) else "failed"
    return manifest.model_copy(update={"evaluations": evaluations, "state": state})


def why_corrupt(error: Corrupt) -> str:
    """Returns the text of a manifest and a report about it."""
    remedy = "restore it from a backup, or `potstill gc STORE --corrupt --delete` and run again"
    return f"CorruptFiles: {error}: {remedy}"


def _by_name(store: Store, unit: UnitRef) -> dict[str, Marker]:
    """Leaves out markers that cannot be read: the decider's EvaluationParts state the evaluations that fail for this
    reason.
    """
    return {marker.name: marker for marker in list_markers(store, unit, lambda *_: None)}


def _attempts(store: Store, unit: UnitRef) -> int:
    """Returns the number of tasks written for the unit, by any experiment."""
    prefix = store_keys.unit_prefix(unit) + "tasks/"
    return sum(1 for info in store.list(prefix) if info.key.removeprefix(prefix).removesuffix(".json").isdigit())


def _run(store: Store, run: FrozenRun, markers: dict[str, Marker], pieces: EvaluationParts) -> ManifestRun:
    unit = train_unit(run)
    done = markers.get(store_keys.DONE)
    record = done.record if done is not None and isinstance(done.record, TrainRecord) else None
    piece = EvaluationPart("done") if done is not None else pieces.runs.get(run.name, EvaluationPart("waiting"))
    losses, trouble = _losses(store, done)
    return ManifestRun(
        name=run.name,
        label=run.label,
        role=run.role,
        digest=unit.digest,
        state=piece.state,
        reason=piece.reason,
        attempts=_attempts(store, unit),
        inputs=run.inputs if isinstance(run.inputs, TrainInputs) else None,
        data_name=run.data,
        domain=run.domain,
        data=record.data if record else None,
        losses=losses,
        train_seconds=record.train_seconds if record else None,
        tokens_per_second=record.tokens_per_second if record else None,
        device=record.device if record else None,
        devices=record.devices if record else None,
        versions=record.versions if record else {},
        warnings=(*(record.warnings if record else ()), *trouble),
    )


def _losses(store: Store, done: Marker | None) -> tuple[tuple[LossPoint, ...], tuple[str, ...]]:
    """Returns the loss curve, and warnings. Damaged metrics only remove the curve."""
    if done is None or METRICS not in {file.name for file in done.files}:
        return (), ()
    try:
        rows = [row for row in _lines(read_file(store, done, METRICS)) if row.get("loss") is not None]
    except Corrupt as error:
        return (), (f"CorruptFiles: {error}: there is no loss curve; restore it from a backup",)
    stride = max(1, -(-len(rows) // LOSS_POINTS))
    kept = [row for index, row in enumerate(rows) if (index + 1) % stride == 0 or index + 1 == len(rows)]
    points = tuple(
        LossPoint(
            step=row["step"],
            samples=row["samples"],
            loss=row["loss"],
            learning_rate=row["learningRate"],
            tokens_per_second=row.get("tokensPerSecond"),
        )
        for row in kept
    )
    return points, ()


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in data.splitlines() if line.strip())


def _model(
    frozen: FrozenExperiment, model: Model, markers: Mapping[UnitRef, Mapping[str, Marker]], pieces: EvaluationParts
) -> ManifestModel:
    if model.run is None:
        return ManifestModel(
            id="base",
            kind="base",
            label="Base",
            state="done",
            content=frozen.base.content,
            thinking=frozen.base_thinking,
            budget_tokens=frozen.budgets[-1],
        )
    run = model.run
    marker = markers[train_unit(run)].get(store_keys.checkpoint_marker(model.samples))
    record = marker.record if marker is not None and isinstance(marker.record, CheckpointRecord) else None
    piece = EvaluationPart("done") if record is not None else pieces.runs.get(run.name, EvaluationPart("waiting"))
    return ManifestModel(
        id=model.id,
        kind="candidate" if run.role == "candidate" else "checkpoint",
        run=run.name,
        label=run.label,
        samples=model.samples,
        step=record.step if record else None,
        state=piece.state,
        content=(record.model_content or (marker.content if marker else None)) if record else None,
        learning_rate=record.learning_rate if record else None,
        loss=record.loss if record else None,
        validation_loss=record.validation_loss if record else None,
        thinking=run.thinking,
        budget_tokens=run.budget_tokens,
        reason=piece.reason,
    )


def _benchmark(benchmark: FrozenBenchmark) -> ManifestBenchmark:
    return ManifestBenchmark(
        name=benchmark.name,
        content=benchmark.source.sha256,
        grader=benchmark.grader,
        problems=sum(len(part.problems) for part in benchmark.parts),
        parts={part.name: len(part.problems) for part in benchmark.parts},
        domain=benchmark.domain,
    )


def _evaluation(
    frozen: FrozenExperiment,
    store: Store,
    want: WantedEvaluation,
    markers: Mapping[UnitRef, dict[str, Marker]],
    pieces: EvaluationParts,
    corrupt: dict[str, str],
) -> ManifestEvaluation:
    """Returns the evaluation.

    If committed files are damaged, adds the reason to `corrupt` and leaves out their content.
    """
    base = ManifestEvaluation(
        model=want.model.id,
        benchmark=want.benchmark.name,
        part=want.part.name,
        state=pieces.evaluations.get(want.id, EvaluationPart("waiting")).state,
        reason=pieces.evaluations.get(want.id, EvaluationPart("waiting")).reason,
        outputs_per_problem=frozen.sampling.n,
    )
    checkpoint = checkpoint_of(want, markers[train_unit(want.model.run)]) if want.model.run else None
    if want.model.run is not None and checkpoint is None:
        return base
    generate = unit_of(generate_inputs(frozen, want, checkpoint))
    outputs = _by_name(store, generate).get(store_keys.OUTPUTS)
    base = base.model_copy(update={"generate": generate.digest, "generate_attempts": _attempts(store, generate)})
    if outputs is None or not isinstance(outputs.record, OutputsRecord):
        return base
    grade = unit_of(grade_inputs(frozen, want, outputs))
    base = base.model_copy(update={"grade": grade.digest, "grade_attempts": _attempts(store, grade)})
    try:
        rows = [Output.model_validate(row) for row in _lines(read_file(store, outputs, "outputs.jsonl"))]
    except Corrupt as error:
        corrupt[want.id] = why_corrupt(error)
        return base
    if (unequal := _unequal(rows, frozen.sampling.n)) is not None:
        corrupt[want.id] = unequal
        return base
    base = base.model_copy(
        update={
            "problems": tuple(dict.fromkeys(row.problem for row in rows)),
            "tokens": tuple(len(row.token_ids) for row in rows),
            "finish": "".join(FINISH_CODES[row.finish_reason] for row in rows),
            "generate_seconds": outputs.record.seconds,
            "prompts_sha256": outputs.record.prompts_sha256,
            "canary_error": outputs.record.canary_error,
            "engine": outputs.record.engine,
        }
    )
    grades = _by_name(store, grade).get(store_keys.GRADES)
    if grades is None or not isinstance(grades.record, GradesRecord):
        return base
    try:
        graded = [Grade.model_validate(row) for row in _lines(read_file(store, grades, "grades.jsonl"))]
        budgets = _budgets(grades, graded, rows)
    except Corrupt as error:
        corrupt[want.id] = why_corrupt(error)
        return base
    except Contradiction as error:
        corrupt[want.id] = f"CorruptFiles: {error}: delete {store_keys.marker_key(grade, grades.name)} and run again"
        return base
    return base.model_copy(
        update={
            "state": "done",
            "reason": None,
            "budgets": budgets,
            "grader_version": grades.record.grader_version,
            "grader_python": grades.record.versions.get("python"),
            "sandbox": grades.record.sandbox,
            "asked_again": grades.record.asked_again,
            "answers": _answers(graded, rows, want, [counts.budget for counts in grades.record.budgets]),
        }
    )


def _budgets(marker: Marker, grades: list[Grade], outputs: list[Output]) -> tuple[BudgetVerdicts, ...]:
    """Returns by budget the counts of the grades, and one code of VERDICT_CODES per output, in the outputs' order.

    Raises Contradiction if the marker states other counts, or an output has no grade, or two.
    """
    assert isinstance(marker.record, GradesRecord)
    counted = counts(grades)
    whose = f"marker {marker.name} of {marker.unit}"
    if found := differences(marker.record.budgets, counted):
        raise Contradiction(f"{whose} contradicts its grades.jsonl: {found[0]}")
    codes = {(grade.budget_tokens, grade.problem, grade.index): code_of(grade) for grade in grades}
    asked = [(output.problem, output.index) for output in outputs]
    expected = {(one.budget, *output) for one in counted for output in asked}
    if len(codes) != len(grades) or codes.keys() != expected:
        raise Contradiction(f"grades.jsonl of {whose} does not hold one grade for each output at each budget")
    suites = _suites(grades, outputs)
    return tuple(
        BudgetVerdicts(
            counts=one,
            verdicts="".join(codes[one.budget, *output] for output in asked),
            suites=suites.get(one.budget, {}),
        )
        for one in counted
    )


def _unequal(rows: list[Output], outputs_per_problem: int) -> str | None:
    """Returns why verdicts cannot be assigned to problems: a problem has too many or too few outputs."""
    counts = Counter(row.problem for row in rows)
    wrong = next((problem for problem, count in counts.items() if count != outputs_per_problem), None)
    if wrong is None:
        return None
    return (
        f"RepeatedProblems: {wrong} has {count_of(counts[wrong], 'output')}, but sampling.n is {outputs_per_problem}: "
        "list each problem once in the benchmark, and run again"
    )


def _suites(grades: Iterable[Grade], outputs: list[Output]) -> dict[int, dict[str, str]]:
    """Returns by budget and suite of tests: P passed or F not, per output in the outputs' order.

    Empty without suites.
    """
    passed: dict[int, dict[str, set[tuple[str, int]]]] = {}
    for grade in grades:
        suites = grade.evidence.get("suites")
        for name, status in suites.items() if isinstance(suites, dict) else ():
            found = passed.setdefault(grade.budget_tokens, {}).setdefault(name, set())
            if status == "pass":
                found.add((grade.problem, grade.index))
    return {
        budget: {
            name: "".join("P" if (o.problem, o.index) in found else "F" for o in outputs)
            for name, found in sorted(by_name.items())
        }
        for budget, by_name in passed.items()
    }


def _answers(
    grades: Iterable[Grade], outputs: list[Output], want: WantedEvaluation, budgets: list[int]
) -> tuple[tuple[int, ...], ...]:
    """Returns by budget and output a number for the answer, equal for equal answers to a problem; 0 for none.

    Empty with one output per problem, and for code, because programs are not compared with each other.
    """
    if _runs_programs(want.benchmark.grader) or len({output.index for output in outputs}) < 2:
        return ()
    found = {(grade.budget_tokens, grade.problem, grade.index): _answer(grade) for grade in grades}
    numbers: dict[str, dict[str, int]] = {}
    rows = []
    for budget in budgets:
        row = []
        for output in outputs:
            answer = found.get((budget, output.problem, output.index))
            of_problem = numbers.setdefault(output.problem, {})
            row.append(0 if answer is None else of_problem.setdefault(answer, len(of_problem) + 1))
        rows.append(tuple(row))
    return tuple(rows)


def _runs_programs(name: str) -> bool:
    """Returns False for a grader that is not installed here, or cannot be loaded."""
    try:
        return GRADERS.require(name).runs_programs
    except RegistryError:
        return False


def _answer(grade: Grade) -> str | None:
    """Returns the grader's parsed answer, or the text without spaces, so that equal answers are more often equal
    texts.
    """
    if grade.verdict not in COMPARED - {"no_answer"} or not grade.answer:
        return None
    parsed = grade.evidence.get("parsed")
    return parsed if isinstance(parsed, str) and parsed else "".join(grade.answer.split())


def code_of(grade: Grade) -> str:
    """Returns one letter of VERDICT_CODES."""
    if grade.verdict not in COMPARED:
        return "e"
    letter = {"right": "R", "wrong": "W", "no_answer": "N"}[grade.verdict]
    return letter if grade.completed else letter.lower()
