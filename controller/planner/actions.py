"""What decide may ask for, and what it says about the experiment. Each carries its (reason, message)."""

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
"""waiting: no task is open for it. pending: one is, and nothing of it runs yet."""


@dataclass(frozen=True)
class Reason:
    """`reason` in CamelCase for machines, `message` for people."""

    reason: str
    message: str


@dataclass(frozen=True)
class WriteTask:
    """Put the task If-None-Match: nothing runs that is not durable first."""

    task: RunnableTask
    why: Reason


@dataclass(frozen=True)
class WritePointers:
    """Put the pointers of a group's members; one whose number is taken is not in the group."""

    task: GenerateTask | GradeTask
    why: Reason


@dataclass(frozen=True)
class Start:
    """Have the executor run the task, once."""

    task: RunnableTask
    why: Reason


@dataclass(frozen=True)
class OfferTask:
    """Append the task to the log of an engine, which then takes it in place of a Job of its own."""

    host: TaskRef
    sequence: int
    task: GenerateTask
    why: Reason


@dataclass(frozen=True)
class CloseTask:
    """Put how an attempt ended, If-None-Match."""

    unit: UnitRef
    end: TaskEnd
    why: Reason


@dataclass(frozen=True)
class Stop:
    """End the live Job of a closed task: SIGTERM, the grace that a state upload needs, SIGKILL."""

    key: str
    why: Reason


@dataclass(frozen=True)
class Discard:
    """Forget the ended Job of a closed task."""

    key: str
    why: Reason


@dataclass(frozen=True)
class FetchWeights:
    """Have the base brought to the volume from which programs read it."""

    why: Reason


@dataclass(frozen=True)
class Condition:
    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True)
class RunLine:
    """One run or candidate: how far its training is. `phase`: what its program says that it does."""

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
    """One model on one part of one benchmark: `done` of `total` outputs, or problems while they are graded.

    `stage`: the name of the stage that it is at. `phase`: what the program that works at it says that it does.
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
    """The state as manifests and counts have it, where what is pending waits."""
    return "waiting" if state == "pending" else state


@dataclass(frozen=True)
class WriteManifest:
    """Fold the records into the manifest; `runs` and `evaluations` say how what is not committed stands.

    `of` identifies the records seen when this was decided.
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
    """What stands committed; never fewer at a later look, unless the store lost something."""

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
    """`generating`: keys of our generate tasks that hold a slot once this is done; None where nothing was seen.

    `limited`: there are more, which wait for a pool's slot that they would else have.
    """

    actions: tuple[Action, ...]
    status: Status
    generating: frozenset[str] | None = None
    limited: bool = False
