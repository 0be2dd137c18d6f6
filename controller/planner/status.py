"""The status of the experiment: conditions, one line for each run and each evaluation, counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.planner.actions import (
    Condition,
    ConditionStatus,
    Counts,
    EvaluationLine,
    Intent,
    LineState,
    Reason,
    RunLine,
    StageLine,
    counted,
)
from controller.planner.evaluations import EvaluationState, Progressed, open_state, progressed
from controller.planner.round import Round
from controller.planner.scheduling import LIMIT_REACHED
from controller.planner.unit_state import REFUSED, SHARED, STARTING, UnitState
from controller.snapshot.types import WEIGHTS, Attempt, StoreSnapshot, UnitView
from workloads.api.counts import EvaluationCounts
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.records import CheckpointRecord
from workloads.api.units import UnitRef
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.words import count_of


def counts(frozen: FrozenExperiment, evaluations: Sequence[EvaluationState], store: StoreSnapshot) -> Counts:
    return Counts(
        checkpoints=sum(len(_committed(run, store)) for run in frozen.runs),
        outputs=sum(evaluation.grade_unit is not None for evaluation in evaluations),
        grades=sum(
            evaluation.grade_unit is not None and store.unit(evaluation.grade_unit).done for evaluation in evaluations
        ),
    )


def _committed(run: FrozenRun, store: StoreSnapshot) -> tuple[int, ...]:
    markers = store.unit(train_unit(run)).markers.values()
    return tuple(sorted(m.record.samples for m in markers if isinstance(m.record, CheckpointRecord)))


def training_state(run: FrozenRun, unit_state: UnitState, store: StoreSnapshot) -> tuple[LineState, Reason]:
    """Returns the state of a training.

    A run of another trainer is done when all its stated checkpoints or its done marker exist.
    """
    published = run.published and bool(run.checkpoints) and set(run.checkpoints) <= set(_committed(run, store))
    if unit_state.state == "done" or published:
        return "done", Reason("TrainingComplete", "every checkpoint is committed")
    if unit_state.state == "exhausted":
        return "failed", unit_state.why
    if run.published:
        return "waiting", Reason("NotPublished", f"waits for `potstill publish` of {run.name}")
    return open_state(unit_state), unit_state.why


def run_lines(round_: Round, unit_states: Mapping[UnitRef, UnitState]) -> tuple[RunLine, ...]:
    return tuple(_run_line(run, unit_states[train_unit(run)], round_.store) for run in round_.experiment.runs)


def _run_line(run: FrozenRun, unit_state: UnitState, store: StoreSnapshot) -> RunLine:
    state, why = training_state(run, unit_state, store)
    attempt = _latest(store.unit(train_unit(run)))
    progress = attempt.progress if attempt else None
    finished = state == "done"
    return RunLine(
        name=run.name,
        label=run.label,
        state=state,
        message=why.message,
        reason=why.reason,
        done=(progress.total if finished else progress.done) if progress else 0,
        total=progress.total if progress else 0,
        checkpoints=len(_committed(run, store)),
        checkpoints_expected=len(run.checkpoints),
        loss=progress.loss if progress else None,
        tokens_per_second=progress.tokens_per_second if progress else None,
        eta_seconds=progress.eta_seconds if progress and state == "running" else None,
        phase=progress.phase if progress and state == "running" else "",
    )


def _latest(view: UnitView) -> Attempt | None:
    return max(view.attempts, key=lambda attempt: attempt.number, default=None)


def evaluation_lines(
    round_: Round, evaluations: Sequence[EvaluationState], unit_states: Mapping[UnitRef, UnitState]
) -> tuple[EvaluationLine, ...]:
    done, phases = _done_by_unit(round_), _phase_by_unit(round_)
    return tuple(_evaluation_line(evaluation, unit_states, round_, done, phases) for evaluation in evaluations)


def _evaluation_line(
    evaluation: EvaluationState,
    unit_states: Mapping[UnitRef, UnitState],
    round_: Round,
    done_by_unit: Mapping[str, int],
    phase_by_unit: Mapping[str, str],
) -> EvaluationLine:
    at, folded = progressed(evaluation, unit_states), round_.store.folded
    corrupt = folded.corrupt.get(evaluation.want.id) if folded is not None else None
    if at.state == "done" and corrupt is not None:
        at = Progressed("failed", at.stage, Reason("CorruptFiles", corrupt))
    total = len(evaluation.want.part.problems) * (round_.experiment.sampling.n if at.stage == GENERATE.name else 1)
    unit = evaluation.grade_unit if at.stage == GRADE.name else evaluation.generate_unit
    done = total if at.state == "done" else 0
    if at.state == "running" and unit is not None:
        done = done_by_unit.get(unit.digest, 0)
    return EvaluationLine(
        model=evaluation.want.model.id,
        benchmark=evaluation.want.benchmark.name,
        part=evaluation.want.part.name,
        state=at.state,
        stage=at.stage,
        reason=at.why.reason,
        message=at.why.message,
        done=done,
        total=total,
        phase=phase_by_unit.get(unit.digest, "") if at.state == "running" and unit is not None else "",
    )


def _phase_by_unit(round_: Round) -> dict[str, str]:
    """Returns phases by a unit's digest, as the running program reports them: its own, its group's leader's, or its
    engine's.
    """
    reports = [attempt.progress for attempt in round_.open_attempts() if attempt.progress is not None]
    return {digest: progress.phase for progress in reports for digest in progress.members}


def _done_by_unit(round_: Round) -> dict[str, int]:
    """Returns done counts by a unit's digest, as in the open task's progress: its own, its group's leader's, or its
    engine's.
    """
    done_by_unit: dict[str, int] = {}
    for attempt in round_.open_attempts():
        for digest, done in (attempt.progress.members if attempt.progress is not None else {}).items():
            done_by_unit[digest] = max(done, done_by_unit.get(digest, 0))
    return done_by_unit


def progressing(round_: Round, idle: bool) -> Condition:
    """Returns the condition Progressing.

    It is False if the cluster blocks the work: a Job is refused, or no existing Job runs.
    """
    if round_.intent == "suspend":
        return Condition("Progressing", "False", "Suspended", "the experiment is suspended")
    snapshot = round_.jobs
    keys = sorted({attempt.lead_key for attempt in round_.own_attempts if attempt.end is None})
    refused = [
        snapshot.refused[key].message
        for key in (*keys, WEIGHTS)
        if key in snapshot.refused and key not in snapshot.jobs
    ]
    if refused:
        message = f"{count_of(len(refused), 'Job')} not created; this uses up no attempt and is retried: {refused[0]}"
        return Condition("Progressing", "False", REFUSED, message)
    jobs = [job for key in keys if (job := snapshot.jobs.get(key)) is not None and job.phase in ("pending", "running")]
    held_up = [job for job in jobs if job.phase == "pending" and job.reason not in ("", STARTING)]
    if held_up and len(held_up) == len(jobs):
        first = held_up[0]
        message = f"{count_of(len(jobs), 'Job')} created, none has started: {first.reason}: {first.message}"
        return Condition("Progressing", "False", first.reason, message)
    message = "there is nothing to do now" if idle else "tasks are running or about to start"
    return Condition("Progressing", "True", "Working", message)


def conditions(
    runs: Sequence[RunLine],
    evaluations: Sequence[EvaluationLine],
    intent: Intent,
    progress: Condition,
    stages: Sequence[StageLine] = (),
) -> tuple[Condition, ...]:
    """Returns the conditions. `StagesComplete` exists only if an added stage has a unit."""
    suspended = intent == "suspend"
    added = [(line.state, f"{line.stage} of {line.source}", line.message) for line in stages]
    return (
        Condition("Accepted", "True", "Frozen", "the experiment was accepted"),
        _shared(
            runs,
            _pending(runs, _complete("TrainingComplete", [(run.state, run.name, run.message) for run in runs], "run")),
        ),
        _limited(
            evaluations,
            _complete(
                "EvaluationsComplete",
                [(line.state, f"{line.model} on {line.benchmark}/{line.part}", line.message) for line in evaluations],
                "evaluation",
                counted(evaluations),
            ),
        ),
        *([_complete("StagesComplete", added, "result")] if added else []),
        Condition(
            "Suspended",
            "True" if suspended else "False",
            "Requested" if suspended else "NotSuspended",
            "no task is started" if suspended else "tasks are started as they become ready",
        ),
        progress,
    )


def _complete(
    type_: str,
    parts: Sequence[tuple[LineState, str, str]],
    noun: str,
    counts: EvaluationCounts | None = None,
) -> Condition:
    """Returns the condition. `counts`: the numbers in its message, if they differ from the numbers of `parts`."""
    failures = [f"{name}: {message}" for state, name, message in parts if state == "failed"]
    states = [state for state, _, _ in parts]
    counts = counts or EvaluationCounts(len(parts), states.count("done"), len(failures))
    status: ConditionStatus = "True" if set(states) <= {"done"} else "False"
    if not set(states) <= {"done", "failed"}:
        message = f"{counts.graded} of {count_of(counts.asked, noun)} done, {counts.failed} failed"
        return Condition(type_, status, "InProgress", message)
    if failures:
        message = f"{counts.failed} of {count_of(counts.asked, noun)} failed; the first is {failures[0]}"
        return Condition(type_, status, "Failed", message)
    return Condition(type_, status, "Complete", f"{count_of(counts.graded, noun)} done")


def _limited(evaluations: Sequence[EvaluationLine], condition: Condition) -> Condition:
    """Returns `condition` with the reason for which evaluations wait, if a limit blocks all of them."""
    condition = _shared(evaluations, _pending(evaluations, condition))
    waiting = [line for line in evaluations if line.reason == LIMIT_REACHED]
    if not waiting:
        return condition
    ready = len({(line.model, line.benchmark) for line in waiting})
    running = any(line.state == "running" for line in evaluations)
    message = f"{condition.message}; {ready} ready: {waiting[0].message}"
    return replace(condition, reason=condition.reason if running else LIMIT_REACHED, message=message)


def _pending(lines: Sequence[RunLine] | Sequence[EvaluationLine], condition: Condition) -> Condition:
    """Returns `condition` with the number of units whose task does not run yet, and the reason of the first."""
    pending = [line for line in lines if line.state == "pending"]
    if not pending:
        return condition
    number = len({line.name if isinstance(line, RunLine) else (line.model, line.benchmark) for line in pending})
    return replace(condition, message=f"{condition.message}; {number} pending: {pending[0].message}")


def _shared(lines: Sequence[RunLine] | Sequence[EvaluationLine], condition: Condition) -> Condition:
    """Returns `condition` with the number of units that wait for another experiment, and its name."""
    waiting = [line for line in lines if line.state == "waiting" and line.reason == SHARED]
    if not waiting:
        return condition
    number = len({line.name if isinstance(line, RunLine) else (line.model, line.benchmark) for line in waiting})
    return replace(condition, message=f"{condition.message}; {number} not started here: {waiting[0].message}")
