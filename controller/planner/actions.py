"""The actions that `decide` returns, and the status of the experiment. Each has a Reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workloads.api.counts import EvaluationCounts, State, evaluation_counts
from workloads.api.records import TaskEnd
from workloads.api.tasks import GenerateTask, GradeTask, RunnableTask, TaskRef
from workloads.api.units import UnitRef

Intent = Literal["run", "suspend", "delete"]
ConditionStatus = Literal["True", "False", "Unknown"]
ManifestState = Literal["running", "succeeded", "partially_failed", "failed"]
LineState = Literal["waiting", "pending", "running", "done", "failed"]
"""waiting: the unit has no open task. pending: it has one, but no process runs yet."""


@dataclass(frozen=True)
class Reason:
    """`reason` in CamelCase for programs, `message` for people."""

    reason: str
    message: str


@dataclass(frozen=True)
class WriteTask:
    """Put the task If-None-Match, before anything runs for it."""

    task: RunnableTask
    why: Reason


@dataclass(frozen=True)
class WritePointers:
    """Put the pointers of a group's members. A member whose number is taken is not in the group."""

    task: GenerateTask | GradeTask
    why: Reason


@dataclass(frozen=True)
class Start:
    """Let the executor run the task, once."""

    task: RunnableTask
    why: Reason


@dataclass(frozen=True)
class OfferTask:
    """Append the task to the log of a running engine, which runs it; it has no Job."""

    host: TaskRef
    sequence: int
    task: GenerateTask
    why: Reason


@dataclass(frozen=True)
class CloseTask:
    """Put the end of an attempt, If-None-Match."""

    unit: UnitRef
    end: TaskEnd
    why: Reason


@dataclass(frozen=True)
class Stop:
    """End the live Job of a closed task: SIGTERM, a grace period for a state upload, SIGKILL."""

    key: str
    why: Reason


@dataclass(frozen=True)
class Discard:
    """Delete the ended Job of a closed task."""

    key: str
    why: Reason


@dataclass(frozen=True)
class FetchWeights:
    """Download the base to the volume from which programs read it."""

    why: Reason


@dataclass(frozen=True)
class Condition:
    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True)
class RunLine:
    """One run or candidate, with the state of its training. `phase`: as its program reports it."""

    name: str
    label: str
    state: LineState
    message: str
    done: int = 0
    total: int = 0
    checkpoints: int = 0
    checkpoints_expected: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    reason: str = ""
    phase: str = ""


@dataclass(frozen=True)
class EvaluationLine:
    """One model on one part of one benchmark: `done` of `total` outputs; problems while they are graded.

    `stage`: the name of its current stage. `phase`: as the running program reports it.
    """

    model: str
    benchmark: str
    part: str
    state: LineState
    stage: str
    reason: str
    message: str
    done: int = 0
    total: int = 0
    phase: str = ""

    @property
    def id(self) -> str:
        return f"{self.model} {self.benchmark}/{self.part}"


@dataclass(frozen=True)
class StageLine:
    """A unit of an added stage. `source`: the checkpoint or evaluation that it reads."""

    stage: str
    source: str
    state: LineState
    reason: str
    message: str


def counted(evaluations: Iterable[EvaluationLine]) -> EvaluationCounts:
    return evaluation_counts((line.model, line.benchmark, stored_state(line.state)) for line in evaluations)


def stored_state(state: LineState) -> State:
    """Returns the state for manifests and counts, which show a pending unit as waiting."""
    return "waiting" if state == "pending" else state


@dataclass(frozen=True)
class WriteManifest:
    """Write the manifest from the records; `runs` and `evaluations` state why the rest is not committed.

    `of` identifies the records that this decision saw.
    """

    of: str
    state: ManifestState
    runs: tuple[RunLine, ...]
    evaluations: tuple[EvaluationLine, ...]
    grades: int
    why: Reason


Action = WriteTask | WritePointers | Start | OfferTask | CloseTask | Stop | Discard | FetchWeights | WriteManifest


@dataclass(frozen=True)
class Counts:
    """Numbers of committed results. They never decrease, unless the store lost something."""

    checkpoints: int = 0
    outputs: int = 0
    grades: int = 0

    def fewer_than(self, recorded: "Counts") -> bool:
        return (
            self.checkpoints < recorded.checkpoints or self.outputs < recorded.outputs or self.grades < recorded.grades
        )


@dataclass(frozen=True)
class Status:
    """`finished`: None until the experiment ends. `report`: the report's unit; None if no report was made."""

    conditions: tuple[Condition, ...]
    runs: tuple[RunLine, ...] = ()
    evaluations: tuple[EvaluationLine, ...] = ()
    counts: Counts = Counts()
    finished: Literal["Succeeded", "PartiallyFailed", "Failed"] | None = None
    idle: bool = False
    report: UnitRef | None = None
    gpu_seconds: float = 0.0
    stages: tuple[StageLine, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == type_), None)


@dataclass(frozen=True)
class Decision:
    """`generating`: keys of this experiment's generate tasks that hold a slot after the actions; None if the round saw
    no snapshot.

    `limited`: whether more tasks wait only for a slot of a limited pool.
    """

    actions: tuple[Action, ...]
    status: Status
    generating: frozenset[str] | None = None
    limited: bool = False
