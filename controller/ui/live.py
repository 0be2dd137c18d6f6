"""A running experiment: its units in the store, the progress of its tasks, and its failures."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.planner.actions import EvaluationLine, RunLine, Status, counted
from controller.planner.added_stages import all_units
from controller.planner.evaluations import resolve_evaluations
from controller.planner.planner import decide
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import Attempt, JobsSnapshot, StoreSnapshot, Unknown, role_of
from workloads.api.counts import EvaluationCounts
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer
from workloads.storage.base import Store, StoreError

LOOK_SECONDS = 1.0
"""Requests within this time share one reading of the units."""
TRAIL_POINTS = 5_000
NOT_FAILED = frozenset({"succeeded", "superseded", "suspended", "preempted", "lost", "deleted"})
"""Outcomes of attempts that do not count as failed: nothing is wrong with the unit's program or its inputs."""

Trail = tuple[tuple[int, float], ...]
"""(step, loss) of a training from its progress at each reading, ascending. Loss in nats per supervised token."""


@dataclass(frozen=True)
class Task:
    """An attempt that is open, or that failed. Times are ISO 8601 in UTC.

    `about`: the run, or the model and benchmark of each evaluation. `done` of `total` in the unit `counted`.
    """

    kind: str
    unit: str
    attempt: int
    about: tuple[str, ...]
    state: str
    created: str
    updated: str | None = None
    phase: str = ""
    done: int = 0
    total: int = 0
    counted: str = ""
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class LiveView:
    """The result of one reading of the units. `trails`: by run.

    `last_sign`: when a task last wrote progress, or ended.
    """

    seen: StoreSnapshot
    status: Status
    tasks: tuple[Task, ...]
    failures: tuple[Task, ...]
    trails: Mapping[str, Trail]
    last_sign: datetime | None

    @property
    def has_open_tasks(self) -> bool:
        return bool(self.tasks)

    @property
    def runs(self) -> tuple[RunLine, ...]:
        return self.status.runs

    @property
    def lines(self) -> tuple[EvaluationLine, ...]:
        return self.status.evaluations

    @property
    def evaluations(self) -> EvaluationCounts:
        return counted(self.status.evaluations)

    @property
    def committed_checkpoints(self) -> int:
        return self.status.counts.checkpoints

    @property
    def steps_done(self) -> int:
        return sum(run.done for run in self.status.runs)

    @property
    def steps_total(self) -> int:
        """The steps of all trainings; 0 if a training has not reported its number of steps yet."""
        totals = [run.total for run in self.status.runs]
        return sum(totals) if all(totals) else 0


@dataclass
class LiveExperiment:
    """Reads the units of one experiment. Keeps the records, and the losses that trainings have reported so far."""

    store: Store
    frozen: FrozenExperiment
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    latest: LiveView | None = None
    _looked_at: float = float("-inf")
    _trails: dict[str, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = SnapshotReader(self.store)
        self._lock = threading.Lock()

    def look(self) -> LiveView:
        """Reads the units at most once in LOOK_SECONDS; between two readings it returns the last view.

        Raises StoreError.
        """
        with self._lock:
            if self.latest is None or self.clock() - self._looked_at >= LOOK_SECONDS:
                seen = self._reader.read(self.frozen, None)
                if isinstance(seen, Unknown):
                    raise StoreError(seen.message)
                self.latest = self._view(seen)
                self._looked_at = self.clock()
            return self.latest

    def _view(self, seen: StoreSnapshot) -> LiveView:
        status = decide(self.frozen, seen, JobsSnapshot({}), self.now()).status
        names = _names(self.frozen, seen)
        own = all_units(self.frozen, resolve_evaluations(self.frozen, seen), seen)
        attempts = [a for unit in own for a in seen.unit(unit).attempts]
        leads = [a for a in attempts if not isinstance(a.task, MemberPointer)]
        leads += _leads_elsewhere(attempts, seen)
        self._follow(seen)
        signs = [a.progress.updated for a in attempts if a.progress] + [a.end.ended for a in attempts if a.end]
        return LiveView(
            seen=seen,
            status=status,
            tasks=tuple(_task(a, names) for a in leads if a.end is None),
            failures=tuple(_task(a, names) for a in leads if _failed(a)),
            trails={name: tuple(sorted(trail.items())) for name, trail in self._trails.items()},
            last_sign=max(signs, default=None),
        )

    def _follow(self, seen: StoreSnapshot) -> None:
        """Records step and loss of each running training. A new attempt that resumes earlier overwrites later steps."""
        for run in self.frozen.runs:
            for attempt in seen.unit(train_unit(run)).open_attempts:
                reported = attempt.progress
                if reported is None or reported.loss is None or reported.counted != "steps":
                    continue
                trail = self._trails.setdefault(run.name, {})
                for step in [step for step in trail if step > reported.done]:
                    del trail[step]
                trail[reported.done] = reported.loss
                while len(trail) > TRAIL_POINTS:
                    del trail[next(iter(trail))]


def _names(frozen: FrozenExperiment, seen: StoreSnapshot) -> dict[str, str]:
    """Returns names by a unit's digest: the run that it trains, or the model and benchmark that it evaluates."""
    names = {train_unit(run).digest: run.name for run in frozen.runs}
    for piece in resolve_evaluations(frozen, seen):
        for unit in (piece.generate_unit, piece.grade_unit):
            if unit is not None:
                names[unit.digest] = piece.want.id
    return names


def _leads_elsewhere(attempts: Iterable[Attempt], seen: StoreSnapshot) -> Iterator[Attempt]:
    """Yields open tasks of other experiments that run units of this one."""
    keys = {a.lead_key for a in attempts if a.end is None and isinstance(a.task, MemberPointer)}
    ours = {a.task.key for a in attempts}
    for view in seen.units.values():
        for attempt in view.open_attempts:
            if attempt.task.key in keys and attempt.task.key not in ours:
                yield attempt


def _failed(attempt: Attempt) -> bool:
    if attempt.end is None:
        return attempt.failure is not None
    return attempt.end.outcome not in NOT_FAILED


def _task(attempt: Attempt, names: Mapping[str, str]) -> Task:
    task, progress, end = attempt.task, attempt.progress, attempt.end
    units = [member.unit for member in task.members] if isinstance(task, GenerateTask | GradeTask) else [task.unit]
    reason, message = "", ""
    if end is not None:
        reason, message = end.reason, end.message.removeprefix(f"{end.reason}: ")
    elif attempt.failure is not None:
        reason, message = attempt.failure.reason, attempt.failure.message
    return Task(
        kind=role_of(task),
        unit=str(task.unit),
        attempt=attempt.number,
        about=tuple(names[unit.digest] for unit in units if unit.digest in names),
        state=end.outcome if end is not None else "open",
        created=task.created.astimezone(UTC).isoformat(),
        updated=(end.ended if end else progress.updated if progress else task.created).astimezone(UTC).isoformat(),
        phase=progress.phase if progress else "",
        done=progress.done if progress else 0,
        total=progress.total if progress else 0,
        counted=progress.counted if progress else "",
        loss=progress.loss if progress else None,
        tokens_per_second=progress.tokens_per_second if progress else None,
        eta_seconds=progress.eta_seconds if progress else None,
        reason=reason,
        message=message,
    )
