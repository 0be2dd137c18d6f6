"""A task: one attempt's order to a pod, durable before the pod exists.

A group is one task with its members listed. It stands under its first member, its *lead*; every other member's own
`tasks/<n>.json` is a pointer to it. A member whose number was taken by another writer meanwhile is not in the group:
the program runs exactly the members whose pointer (or, for the lead, the task itself) names this task.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer

from workloads.api import store_keys
from workloads.api.model import Contract
from workloads.api.units import (
    ExternalInputs,
    GenerateInputs,
    GradeInputs,
    ReportInputs,
    Sha256,
    Sharding,
    StageInputs,
    TrainInputs,
    UnitRef,
)


class Owner(Contract):
    experiment: str
    uid8: str


class ModelSource(Contract):
    """Where weights stand: hub://name@revision, s3://..., or a directory. `content` is what they must hash to."""

    location: str
    content: str


class FileSource(Contract):
    """A file: s3://..., a path, or builtin:<name>. Its SHA-256 is checked before use."""

    location: str
    sha256: Sha256


class AdapterSource(Contract):
    """An adapter: the files of a checkpoint marker of a train unit."""

    unit: UnitRef
    marker: str
    content: Sha256


class CheckpointSource(Contract):
    """Whole weights: the files of a checkpoint marker of a train unit. `content` is theirs, as ModelSource.content."""

    unit: UnitRef
    marker: str
    content: str


class TaskBase(Contract):
    schema_version: Literal[1] = 1
    unit: UnitRef
    number: int = Field(gt=0)
    owner: Owner
    created: AwareDatetime

    @property
    def key(self) -> str:
        return store_keys.task_key(self.unit, self.number)


class TrainTask(TaskBase):
    type: Literal["train"] = "train"
    inputs: TrainInputs
    base: ModelSource
    data: FileSource
    save_state_every_seconds: float = 600.0
    mixture: tuple[FileSource, ...] = Field((), description="of a mixture all its data sets; data is the first")
    start: ModelSource | None = Field(None, description="the adapter that the training starts from")

    @property
    def sources(self) -> tuple[FileSource, ...]:
        """A data set for each of `inputs.parts`."""
        return self.mixture or (self.data,)

    sharding: Sharding = Field("auto", description="whether the ranks divide the model's weights among them")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `mixture`, `start` and `sharding` at their defaults: programs of before do not know them."""
        dumped: dict[str, Any] = handler(self)
        dumped = {name: value for name, value in dumped.items() if name not in ("mixture", "start") or value}
        return {name: value for name, value in dumped.items() if (name, value) != ("sharding", "auto")}


class ImportTask(TaskBase):
    """Commit checkpoints that another trainer wrote. `ready` names the file that says a checkpoint is whole."""

    type: Literal["import"] = "import"
    inputs: ExternalInputs
    base: ModelSource
    location: str
    weights: Literal["adapter", "model"] = "adapter"
    ready: str | None = None
    expect: tuple[int, ...] = Field((), description="sample counts to wait for; empty: one checkpoint, at samples 0")


class GenerateMember(Contract):
    unit: UnitRef
    number: int = Field(gt=0)
    inputs: GenerateInputs
    benchmark: FileSource
    benchmark_name: str
    adapter: AdapterSource | None = None
    weights: ModelSource | None = Field(None, description="whole weights in place of the task's base")
    checkpoint: CheckpointSource | None = Field(None, description="the same, as the files of a checkpoint in the store")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `checkpoint` where there is none: programs of before do not know it."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name != "checkpoint" or value}


class TaskRef(Contract):
    unit: UnitRef
    number: int = Field(gt=0)

    @property
    def key(self) -> str:
        return store_keys.task_key(self.unit, self.number)


class GenerateTask(TaskBase):
    """`host`: the task whose engine was to take this one, so that no engine need start for it. `takes_offers`: whether
    the engine that works at it says meanwhile how many more it has room for; False: its members are alone there.

    `lora_target`, `lora_rank`: the layers that adapters of this experiment change, and the largest rank (0: not known),
    for the base's evaluations too: an engine keeps slots for them unless its flags say otherwise.
    """

    type: Literal["generate"] = "generate"
    base: ModelSource
    members: tuple[GenerateMember, ...] = Field(min_length=1)
    idle_timeout_seconds: float = Field(0.0, alias="lingerSeconds")
    takes_offers: bool = False
    lora_target: Literal["attention", "all"] = "all"
    lora_rank: int = 0
    host: TaskRef | None = None


class Offer(Contract):
    """One entry of an engine's log (`layout.offer_key`), PUT If-None-Match at the next free number.

    The controller appends the key of a task for the engine to take; the engine appends an entry without one to close
    the log before it exits. The first writer of the number decides, so that no task is offered to an engine that
    has gone.
    """

    task_key: str | None


class GradeMember(Contract):
    unit: UnitRef
    number: int = Field(gt=0)
    inputs: GradeInputs
    outputs: UnitRef
    benchmark: FileSource
    benchmark_name: str


class GradeTask(TaskBase):
    type: Literal["grade"] = "grade"
    members: tuple[GradeMember, ...] = Field(min_length=1)
    allow_unsandboxed: bool = False


class ReportTask(TaskBase):
    type: Literal["report"] = "report"
    inputs: ReportInputs


class StageTask(TaskBase):
    """A task of an added stage."""

    type: Literal["stage"] = "stage"
    inputs: StageInputs


class MemberPointer(TaskBase):
    """A member's own tasks/<n>.json: its attempt is the lead's task."""

    type: Literal["member"] = "member"
    lead: UnitRef
    lead_number: int = Field(gt=0)


Task = Annotated[
    TrainTask | ImportTask | GenerateTask | GradeTask | ReportTask | StageTask | MemberPointer,
    Field(discriminator="type"),
]
RunnableTask = TrainTask | ImportTask | GenerateTask | GradeTask | ReportTask | StageTask

TASK: TypeAdapter[Task] = TypeAdapter(Task)


def parse_task(data: bytes) -> Task:
    """Raises pydantic.ValidationError; an unknown schemaVersion is one."""
    return TASK.validate_json(data)


def pointers(task: GenerateTask | GradeTask) -> tuple[MemberPointer, ...]:
    """The pointers of all members but the lead."""
    return tuple(
        MemberPointer(
            unit=member.unit,
            number=member.number,
            owner=task.owner,
            created=task.created,
            lead=task.unit,
            lead_number=task.number,
        )
        for member in task.members
        if member.unit != task.unit
    )
