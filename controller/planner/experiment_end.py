"""The end of an experiment: manifest, report, terminal condition."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from controller.planner.actions import (
    Action,
    LineState,
    ManifestState,
    Reason,
    Start,
    Status,
    WriteManifest,
    WriteTask,
)
from controller.planner.round import Round
from controller.planner.unit_state import state_of
from controller.snapshot.types import StoreSnapshot
from workloads.api.model import canonical_json, sha256_of
from workloads.api.tasks import ReportTask
from workloads.api.units import ReportInputs, UnitRef, unit_of
from workloads.words import count_of

Verdict = Literal["Succeeded", "PartiallyFailed", "Failed"]
STATES: dict[Verdict, ManifestState] = {
    "Succeeded": "succeeded",
    "PartiallyFailed": "partially_failed",
    "Failed": "failed",
}
INTERIM_SECONDS = 60.0


@dataclass(frozen=True)
class Finish:
    """`settled`: None until the report exists or was given up."""

    actions: tuple[Action, ...] = ()
    report: UnitRef | None = None
    settled: Reason | None = None
    report_failed: bool = False


def records_digest(store: StoreSnapshot, units: Iterable[UnitRef]) -> str:
    """Returns a digest of the records that a manifest is made from: every marker, and every task with its end."""
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


def all_settled(status: Status) -> bool:
    """Returns whether every training, evaluation and unit of an added stage is done or has failed."""
    return all(state in {"done", "failed"} for state in _states(status))


def _states(status: Status) -> list[LineState]:
    states = [run.state for run in status.runs] + [line.state for line in status.evaluations]
    return states + [line.state for line in status.stages]


def verdict(status: Status) -> Verdict:
    """Returns failed if no evaluation has a result, or no training if there are no evaluations."""
    wanted_states = [line.state for line in status.evaluations] or [line.state for line in status.runs]
    if set(_states(status)) <= {"done"}:
        return "Succeeded"
    return "PartiallyFailed" if "done" in wanted_states else "Failed"


def finish(round_: Round, units: Iterable[UnitRef], status: Status) -> Finish:
    """Returns the next step of: manifest, report, done. Call it only when all is settled and no task is open."""
    store = round_.store
    of = records_digest(store, units)
    if store.folded is None or store.folded.of != of:
        why = Reason("AllSettled", "every evaluation is committed or has a reason")
        return Finish((_manifest(of, STATES[verdict(status)], status, why),))
    inputs = ReportInputs(manifest_content=store.folded.sha256)
    unit = unit_of(inputs)
    unit_state = state_of(store.unit(unit), round_, {})
    if unit_state.state == "done" and any(a.task.owner == round_.owner for a in store.unit(unit).open_attempts):
        return Finish(report=unit)  # its program is about to end, and its task is closed then
    if unit_state.state == "done":
        return Finish(report=unit, settled=Reason("Reported", "the report is written"))
    if unit_state.state == "exhausted":
        return Finish(report=unit, settled=unit_state.why, report_failed=True)
    if unit_state.state != "ready":
        return Finish(report=unit)
    number = store.unit(unit).next_number
    task = ReportTask(unit=unit, number=number, owner=round_.owner, created=round_.now, inputs=inputs)
    why = Reason("ManifestWritten", "the report is made from the manifest")
    return Finish((WriteTask(task, why), Start(task, why)), unit)


def interim_manifest(round_: Round, units: Iterable[UnitRef], status: Status) -> WriteManifest | None:
    """Returns a new manifest of a running experiment if there are new grades, at most once a minute."""
    before = round_.store.folded
    if status.counts.grades <= (before.grades if before else 0):
        return None
    if before is not None and round_.now - before.at < timedelta(seconds=INTERIM_SECONDS):
        return None
    why = Reason("NewGrades", f"grades are committed of {count_of(status.counts.grades, 'part')} of evaluations")
    return _manifest("interim " + records_digest(round_.store, units), "running", status, why)


def _manifest(of: str, state: ManifestState, status: Status, why: Reason) -> WriteManifest:
    return WriteManifest(of, state, status.runs, status.evaluations, status.counts.grades, why)
