"""A task: the order to a pod for one attempt. It is stored before the pod exists.

A group is one task that lists its members. It is stored under its first member, its *leader*; `tasks/<n>.json` of every
other member is a pointer to it. If another writer took a member's number, the member is not in the group: the program
runs exactly the members whose pointer (or, for the leader, the task itself) names this task.
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
    """The location of weights: hub://name@revision, s3://..., or a directory. `content`: the expected digest."""

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
    """Whole weights: the files of a checkpoint marker of a train unit.

    `content` is that of the marker, like ModelSource.content.
    """

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
        """Returns a data set for each of `inputs.parts`."""
        return self.mixture or (self.data,)

    sharding: Sharding = Field("auto", description="whether the ranks divide the model's weights among them")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out `mixture`, `start` and `sharding` at their defaults, because older programs do not know these
        fields.
        """
        dumped: dict[str, Any] = handler(self)
        dumped = {name: value for name, value in dumped.items() if name not in ("mixture", "start") or value}
        return {name: value for name, value in dumped.items() if (name, value) != ("sharding", "auto")}


class ImportTask(TaskBase):
    """Commits checkpoints that another trainer wrote.

    `ready`: the name of the file that shows that a checkpoint is complete.
    """

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
        """Leaves out `checkpoint` if there is none, because older programs do not know the field."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name != "checkpoint" or value}


class TaskRef(Contract):
    unit: UnitRef
    number: int = Field(gt=0)

    @property
    def key(self) -> str:
        return store_keys.task_key(self.unit, self.number)


class GenerateTask(TaskBase):
    """`host`: the task whose engine should run this one, so that no new engine is needed. `takes_offers`: whether the
    running engine reports its free capacity; False if the members must be alone in it.

    `lora_target`, `lora_rank`: the layers that adapters of this experiment change, and the largest rank (0: unknown),
    also for the base's evaluations. The engine reserves adapter slots for them unless its flags state otherwise.
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
    """One entry of an engine's log (`store_keys.offer_key`), PUT If-None-Match at the next free number.

    The controller appends the key of a task for the engine to take; the engine appends an entry without one to close
    the log before it exits. The first writer of the number decides, so that no task is offered to an engine that has
    ended.
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
    """`tasks/<n>.json` of a member: its attempt is part of the leader's task."""

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
    """Raises pydantic.ValidationError, also for an unknown schemaVersion."""
    return TASK.validate_json(data)


def pointers(task: GenerateTask | GradeTask) -> tuple[MemberPointer, ...]:
    """Returns the pointers of all members except the leader."""
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
