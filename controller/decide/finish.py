"""The end of an experiment: manifest, report, terminal condition."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from controller.decide.actions import (
    Action,
    EvaluationLine,
    ManifestState,
    PieceState,
    RunLine,
    Start,
    Status,
    Why,
    WriteManifest,
    WriteTask,
)
from controller.decide.standing import owner_of, standing
from controller.view import ExecutorView, StoreView
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.model import canonical_json, sha256_of
from workloads.contract.tasks import ReportTask
from workloads.contract.units import ReportInputs, UnitRef, unit_of

Verdict = Literal["Succeeded", "PartiallyFailed", "Failed"]
STATES: dict[Verdict, ManifestState] = {
    "Succeeded": "succeeded",
    "PartiallyFailed": "partially_failed",
    "Failed": "failed",
}
INTERIM_SECONDS = 60.0


@dataclass(frozen=True)
class Finish:
    """`settled` None until the report is there or given up."""

    actions: tuple[Action, ...] = ()
    report: UnitRef | None = None
    settled: Why | None = None
    report_failed: bool = False


def records_digest(store: StoreView, units: Iterable[UnitRef]) -> str:
    """Identifies what a manifest is folded from: every marker, and every task with how it ended."""
    seen = [
        [
            str(unit.kind),
            unit.digest,
            sorted([name, marker.content, marker.attempt] for name, marker in store.unit(unit).markers.items()),
            sorted([a.number, a.end.outcome if a.end else ""] for a in store.unit(unit).attempts),
        ]
        for unit in units
    ]
    return sha256_of(canonical_json(sorted(seen)))


def all_settled(runs: Sequence[RunLine], evaluations: Sequence[EvaluationLine]) -> bool:
    return all(state in {"done", "failed"} for state in _states(runs, evaluations))


def _states(runs: Sequence[RunLine], evaluations: Sequence[EvaluationLine]) -> list[PieceState]:
    return [run.state for run in runs] + [line.state for line in evaluations]


def verdict(runs: Sequence[RunLine], evaluations: Sequence[EvaluationLine]) -> Verdict:
    """Failed: nothing that was asked for came of it. An experiment without evaluations asks for its trainings."""
    asked = [line.state for line in evaluations] or [line.state for line in runs]
    if set(_states(runs, evaluations)) <= {"done"}:
        return "Succeeded"
    return "PartiallyFailed" if "done" in asked else "Failed"


def finish(
    frozen: FrozenExperiment,
    store: StoreView,
    executor: ExecutorView,
    units: Iterable[UnitRef],
    status: Status,
    now: datetime,
) -> Finish:
    """The next step of: fold, report, done. Asked only when all is settled and no task is open."""
    of = records_digest(store, units)
    if store.folded is None or store.folded.of != of:
        why = Why("AllSettled", "every evaluation is committed or explained")
        return Finish((_manifest(of, STATES[verdict(status.runs, status.evaluations)], status, why),))
    inputs = ReportInputs(manifest_content=store.folded.sha256)
    unit = unit_of(inputs)
    stands = standing(store.unit(unit), frozen, executor, {}, now)
    if stands.state == "done" and any(a.task.owner == owner_of(frozen) for a in store.unit(unit).open_attempts):
        return Finish(report=unit)  # its program is about to end, and its task is closed then
    if stands.state == "done":
        return Finish(report=unit, settled=Why("Reported", "the report is written"))
    if stands.state == "exhausted":
        return Finish(report=unit, settled=stands.why, report_failed=True)
    if stands.state != "ready":
        return Finish(report=unit)
    number = store.unit(unit).next_number
    task = ReportTask(unit=unit, number=number, owner=owner_of(frozen), created=now, inputs=inputs)
    why = Why("ManifestWritten", "the report is made from the manifest")
    return Finish((WriteTask(task, why), Start(task, why)), unit)


def interim_manifest(store: StoreView, units: Iterable[UnitRef], status: Status, now: datetime) -> WriteManifest | None:
    """While it runs, a new manifest when there are new grades, once a minute at most."""
    before = store.folded
    if status.counts.grades <= (before.grades if before else 0):
        return None
    if before is not None and now - before.at < timedelta(seconds=INTERIM_SECONDS):
        return None
    why = Why("NewGrades", f"grades of {status.counts.grades} parts of evaluations are committed")
    return _manifest("interim " + records_digest(store, units), "running", status, why)


def _manifest(of: str, state: ManifestState, status: Status, why: Why) -> WriteManifest:
    return WriteManifest(of, state, status.runs, status.evaluations, status.counts.grades, why)
