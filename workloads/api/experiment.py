"""An accepted experiment: with defaults, digests of all files, images and profile. It is written once and read by all.

`resolve` in the controller makes it from the experiment file. Later changes (a new controller, an edited profile, a
moved tag) do not change it. An addition to a live experiment makes a new revision of it.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, Field, SerializerFunctionWrapHandler, model_serializer

from workloads.api.model import Contract
from workloads.api.tasks import FileSource, ModelSource
from workloads.api.units import (
    EngineIdentity,
    ExternalInputs,
    Prompting,
    RegisteredName,
    Sampling,
    Sharding,
    TrainInputs,
    UnitKind,
)

PartName = Literal["fast", "rest", "subset", "all"]


class FrozenRun(Contract):
    """A series of checkpoints with one name. `budget_tokens`: the budget at which tables show it.

    If `inputs` has type lora or full, the run is trained here; external checkpoints are watched, published or
    (candidate) exist already.
    """

    name: str
    label: str
    role: Literal["run", "candidate"] = "run"
    data: str | None = Field(None, description="name of its data set, for people")
    domain: str | None = Field(None, description="what its data teaches, as the file states it")
    inputs: TrainInputs | ExternalInputs = Field(discriminator="type")
    data_source: FileSource | None = None
    mixture_sources: tuple[FileSource, ...] = Field((), description="of a mixture all its data sets, the first too")
    start: ModelSource | None = Field(None, description="the adapter that the training starts from")
    sharding: Sharding = Field("auto", description="whether a training's ranks divide the weights among them")
    location: str | None = Field(None, description="external: where the checkpoints appear or the candidate stands")
    weights: Literal["adapter", "model"] = "adapter"
    ready: str | None = None
    published: bool = Field(
        False, description="external: `potstill publish` commits the checkpoints; no Job looks for them"
    )
    checkpoints: tuple[int, ...] = Field(description="sample counts expected, ascending; a candidate has (0,)")
    budget_tokens: int
    thinking: bool = True
    epochs: float | None = Field(None, description="passes over its data, where the file states them, not samples")

    @property
    def sources(self) -> tuple[FileSource, ...]:
        """Returns the data sets of a training, one for each of `inputs.parts`."""
        return self.mixture_sources or ((self.data_source,) if self.data_source is not None else ())

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out newer fields that are not stated, so that older experiments keep their digest."""
        dumped: dict[str, Any] = handler(self)
        empty = ("mixture_sources", "mixtureSources", "start", "epochs")
        dumped = {name: value for name, value in dumped.items() if name not in empty or value}
        return {name: value for name, value in dumped.items() if (name, value) != ("sharding", "auto")}


class FrozenPart(Contract):
    """One part of a benchmark. Its parts are disjoint and separate units: changing from fast to full generates only the
    rest.

    `all` has no ids: the controller cannot read the benchmark, and it is evaluated as a whole.
    """

    name: PartName
    problems: tuple[str, ...]


class FrozenBenchmark(Contract):
    name: str
    source: FileSource
    grader: RegisteredName
    grader_version: str | None = Field(None, description="of a grader that another distribution adds")
    completion: Literal["boxed", "fenced", "any", "pattern"]
    completion_pattern: str | None = None
    domain: str | None = Field(None, description="what it asks, as the file states it")
    parts: tuple[FrozenPart, ...]
    checkpoint_parts: tuple[PartName, ...]
    base_parts: tuple[PartName, ...]
    confirm: tuple[str, ...] = Field((), description="run@samples or run@last whose evaluation is on all parts")
    trained_prompting: dict[str, Prompting] = Field(description="by run name: as it was trained")
    base_prompting: Prompting

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out `grader_version` of a built-in grader, so that older experiments keep their digest."""
        dumped: dict[str, Any] = handler(self)
        empty = ("grader_version", "graderVersion")
        return {name: value for name, value in dumped.items() if name not in empty or value is not None}


class FrozenRequirement(Contract):
    benchmark: str
    metric: Literal["accuracy", "completed", "strict"]
    max_drop: float = Field(ge=0, le=1)


class FrozenGate(Contract):
    """`baseline`: base, run@samples, run@last, or the store URL of another experiment's manifest."""

    candidate: str
    baseline: str
    require: tuple[FrozenRequirement, ...]
    alpha: float = 0.05
    budget_tokens: int


class Limits(Contract):
    """Limits of attempts are per unit; times are in seconds. The pending and no-progress limits use the controller's
    clock.

    `batch_window_seconds` and `idle_timeout_seconds` have older names in the JSON, which other versions read.
    """

    attempts: int = Field(3, gt=0)
    preemptions: int = Field(20, ge=0)
    no_progress_seconds: float = Field(1800.0, gt=0)
    pending_seconds: float | None = Field(None, gt=0)
    gpu_seconds: float | None = Field(None, gt=0)
    evaluation_slots: int = Field(2, gt=0, description="generate tasks that run at one time")
    training_slots: int = Field(8, gt=0)
    grading_slots: int = Field(2, gt=0, description="grade tasks that run at one time")
    group_members: int = Field(64, gt=0, description="evaluations that one engine has at a time, at most")
    batch_window_seconds: float = Field(
        0.0, ge=0, alias="gatherSeconds", description="that an evaluation may wait for others before its engine starts"
    )
    idle_timeout_seconds: float = Field(
        0.0, ge=0, alias="lingerSeconds", description="that an engine without work is kept"
    )


class FrozenExperiment(Contract):
    schema_version: Literal[1] = 1
    name: str
    uid8: str = Field(pattern=r"^[0-9a-f]{8}$")
    revision: int = Field(1, gt=0)
    accepted: AwareDatetime
    spec_sha256: str
    base: ModelSource
    base_name: str
    base_thinking: bool = False
    runs: tuple[FrozenRun, ...]
    benchmarks: tuple[FrozenBenchmark, ...]
    sampling: Sampling
    budgets: tuple[int, ...] = Field(description="ascending; outputs are generated once, to the last")
    engine: EngineIdentity
    stop_token_ids: tuple[int, ...] = ()
    opening: tuple[int, ...] = Field((), description="tokens that the base's tokenizer puts before every text (BOS)")
    epoch: int = 0
    gate: FrozenGate | None = None
    limits: Limits = Limits()
    allow_unsandboxed: bool = False
    profile: dict[str, object] = Field({}, description="the admin's profile as it was at acceptance, for Job builders")
    stages: tuple[UnitKind, ...] = Field((), description="added stages that were installed at acceptance, by name")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out empty `opening` and `stages`, so that older experiments keep their digest."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name not in ("opening", "stages") or value}
