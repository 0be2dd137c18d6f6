"""Units of work: exactly the inputs that decide a result (no locations, names, labels or GPU counts).

Two experiments with the same inputs get the same digest, so the second one reuses the result. Equal digests mean equal
inputs; a second run need not be bit-equal (batch composition can change greedy outputs).
"""

from functools import lru_cache
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from workloads.api.model import Contract, digest_of

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RegisteredName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$", max_length=64)]
"""The name of a grader or an engine. It is checked when an experiment is loaded."""
UnitKind = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,12}$")]
"""The kind of a stage's units (`workloads.stages`): a part of store keys and Job names."""

TRAIN_NUMERICS = "train-1"
"""The version of the fast trainer's arithmetic.

Raise it when the arithmetic changes, so that old checkpoints are not reused.
"""
GENERAL_NUMERICS = "general-2"
"""The same for the general trainer."""
NUMERICS = {"fast": TRAIN_NUMERICS, "general": GENERAL_NUMERICS}
GRADER_VERSION = "grade-4"
"""Raised when a verdict could change: outputs are then graded again, and nothing is generated again."""
REPORT_VERSION = "report-3"
"""Raise it when a report of the same manifest could change: reports are then made again."""


MOST_SHARED_REFS = 20_000
"""Most references that are remembered, to be shared by later records."""


class UnitRef(Contract):
    kind: UnitKind
    digest: Sha256

    @model_validator(mode="wrap")
    @classmethod
    def _shared(cls, value: Any, read: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Records that are read share equal references: those of a unit name it many times, and a controller holds
        thousands.
        """
        ref = read(value)
        return _first_equal(ref) if info.mode == "json" else ref

    def __str__(self) -> str:
        return f"{self.kind}/{self.digest[:12]}"


Ref = TypeVar("Ref", bound=UnitRef)


@lru_cache(MOST_SHARED_REFS)
def _first_equal(ref: Ref) -> Ref:
    return ref


KINDS = ("attention", "mlp", "experts")
"""Allowed values of `Lora.target`, in addition to names of linear modules and ALL_LINEAR."""
ALL_LINEAR = "all-linear"


class Lora(Contract):
    """`target`: kinds of layers (KINDS), names of linear modules (q_proj), or all-linear. `rslora`: alpha / sqrt(rank).

    Newer fields are left out of the JSON at their defaults, so that older digests stay the same.
    """

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    target: tuple[str, ...]
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = False

    @property
    def is_plain(self) -> bool:
        """Returns whether the fast trainer supports it: kinds of layers, no dropout, scaled by alpha / rank."""
        return set(self.target) <= set(KINDS) and not self.dropout and not self.rslora

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), {"dropout": 0.0, "rslora": False})


def _without(dumped: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Returns `dumped` without the fields that have these default values."""
    return {name: value for name, value in dumped.items() if name not in defaults or value != defaults[name]}


Sharding = Literal["auto", "always", "never"]
"""Whether the ranks of a training shard the model's weights (FSDP).

It is not part of a digest: like the number of GPUs, it changes results only by rounding.
"""
DataFormat = Literal["prompt", "messages", "sharegpt", "alpaca"]
"""The form of a row: prompt and response, a conversation (OpenAI's or ShareGPT's keys), or an instruction."""
Loss = Literal["all", "last"]
"""Which of the assistant's turns in a conversation have loss."""


class Columns(Contract):
    """Names of the columns that are read.

    None means the format's own name and is left out of the JSON, as in older digests.
    """

    prompt: str = "prompt"
    response: str = "response"
    messages: str | None = None
    system: str | None = None
    tools: str | None = None
    instruction: str | None = None
    input: str | None = None
    output: str | None = None

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        names = ("messages", "system", "tools", "instruction", "input", "output")
        return _without(handler(self), dict.fromkeys(names))


class TemplateVariable(Contract):
    """`value`: as JSON text, so that true and 1 differ."""

    name: str
    value: str


class Template(Contract):
    """How prompts and conversations become text.

    `name`: chatml, plain, file (`text` is the user's Jinja source) or base (the base's own chat template). `variables`
    and `date` (the value of strftime_now) are for file and base; the JSON leaves them out if they are not stated.
    """

    name: Literal["chatml", "plain", "file", "base"] = "chatml"
    text: str | None = None
    system: str | None = None
    variables: tuple[TemplateVariable, ...] = ()
    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped = handler(self)
        return _without(dumped, {"variables": type(dumped.get("variables", ()))(), "date": None})


class MixturePart(Contract):
    """One data set of a mixture. Its share of the samples is its weight divided by the sum of all weights."""

    data_content: Sha256
    columns: Columns
    format: DataFormat = "prompt"
    loss: Loss = "all"
    weight: float = Field(gt=0)


class TrainInputs(Contract):
    """All inputs of a training's result. `type` is the method: lora trains an adapter, full all weights.

    `samples` is the number of trained samples, not of rows; `batch_size` is samples per optimizer step over all GPUs;
    `sequence_tokens` limits prompt + response. `checkpoints` are the sample counts at which one is published.
    `trainer`: fast has kernels for a few architectures, general runs any model of transformers. `format` is the form of
    a row, `loss` the turns with loss; each part of a mixture has separate ones. Newer fields are left out of the JSON
    at their default, so that older digests stay the same.
    """

    type: Literal["lora", "full"] = "lora"
    base_content: str
    data_content: Sha256
    columns: Columns
    template: Template
    samples: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    sequence_tokens: int = Field(gt=0)
    overlong: Literal["truncate", "drop"]
    on_short: Literal["fail", "repeat"]
    checkpoints: tuple[int, ...]
    lora: Lora | None = Field(None, description="of type lora; of type full there is none, nor in the JSON")
    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(ge=0, description="largest gradient norm; 0: not clipped")
    validation_share: float = Field(ge=0, lt=1)
    precision: Literal["float32", "bfloat16"]
    seed: int
    epoch: int = 0
    trainer: Literal["fast", "general"] = "fast"
    numerics: str = TRAIN_NUMERICS
    format: DataFormat = "prompt"
    loss: Loss = "all"
    mixture: tuple[MixturePart, ...] = ()
    start: str | None = Field(None, description="content of the adapter that the training starts from, sha256:<64 hex>")

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        if (self.type == "lora") != (self.lora is not None):
            raise ValueError("lora is stated with type lora, and only there")
        if self.type == "full" and self.trainer != "general":
            raise ValueError("type full needs trainer general")
        if self.start is not None and (self.type == "full" or self.trainer != "general"):
            raise ValueError("start needs type lora and trainer general")
        return self

    @property
    def adapter(self) -> Lora:
        """Returns the adapter of a training of type lora."""
        assert self.lora is not None, "a full training has no adapter"
        return self.lora

    @property
    def parts(self) -> tuple[MixturePart, ...]:
        """Returns the data sets: those of the mixture, or the single one."""
        alone = MixturePart(
            data_content=self.data_content, columns=self.columns, format=self.format, loss=self.loss, weight=1
        )
        return self.mixture or (alone,)

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped = handler(self)
        no_parts = type(dumped.get("mixture", ()))()
        later = {"trainer": "fast", "format": "prompt", "loss": "all", "mixture": no_parts, "lora": None, "start": None}
        return _without(dumped, later)


class ExternalInputs(Contract):
    """Checkpoints of another trainer, identified by their location, or a candidate, identified by its content.

    Evaluated weights are identified by their content, which is read when the checkpoint is committed; these inputs only
    name the location. `expect`: the sample counts to wait for. When all of them are committed, the unit is done.
    """

    type: Literal["external"] = "external"
    base_content: str
    source: str
    expect: tuple[int, ...] = ()
    epoch: int = 0


class ModelContent(Contract):
    """The content of weights: the base alone, the base with an adapter, or whole weights (`base` is then their
    content).
    """

    base: str
    adapter: Sha256 | None = None


class Prompting(Contract):
    """How a problem becomes prompt tokens. `prefill` is the beginning of the answer and is graded with the output."""

    template: Template
    instruction: str = Field("", description="text around {problem}; empty: the problem alone")
    prefill: str = ""
    stop: tuple[str, ...] = ()


class Sampling(Contract):
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, gt=0, description="outputs per problem")
    seed: int = 0


class EngineIdentity(Contract):
    """The engine that generates. `gpu`: the model name in the profile, or cpu. `flags`: flags that change numerics."""

    name: RegisteredName
    version: str
    dtype: Literal["float32", "bfloat16", "float16"]
    gpu: str = "cpu"
    flags: dict[str, str | int | float | bool] = {}


class GenerateInputs(Contract):
    """One model on one part of one benchmark."""

    model: ModelContent
    benchmark_content: Sha256
    problems: tuple[str, ...] = Field(description="problem ids, in order; empty: all of the file")
    prompting: Prompting
    sampling: Sampling
    limit_tokens: int = Field(gt=0, description="largest number of new tokens")
    stop_token_ids: tuple[int, ...] = Field((), description="empty: the end tokens that the base declares")
    engine: EngineIdentity
    epoch: int = 0
    opening: tuple[int, ...] = Field((), description="tokens that are put before every prompt (BOS)")

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out an empty `opening`, so that older digests stay the same."""
        dumped = handler(self)
        return _without(dumped, {"opening": type(dumped.get("opening", ()))()})


class GradeInputs(Contract):
    """Verdicts on one set of outputs at every budget.

    `thinking`: whether an answer counts only after a closed </think>.
    """

    outputs_content: Sha256
    benchmark_content: Sha256
    grader: RegisteredName
    completion: Literal["boxed", "fenced", "any", "pattern"]
    completion_pattern: str | None = None
    thinking: bool
    budgets: tuple[int, ...]
    prefill: str = ""
    grader_version: str = GRADER_VERSION


class ReportInputs(Contract):
    manifest_content: Sha256
    report_version: str = REPORT_VERSION


class StageInputs(Contract):
    """One committed result of a built-in stage as the input of an added stage.

    `stage` is the name of the added stage, `stage_version` the version of its results. It reads the marker `marker` of
    the unit `source`, whose content digest is `content`.
    """

    stage: UnitKind
    stage_version: str
    source: UnitRef
    marker: str
    content: Sha256


UnitInputs = TrainInputs | ExternalInputs | GenerateInputs | GradeInputs | ReportInputs | StageInputs


def unit_of(inputs: UnitInputs) -> UnitRef:
    if isinstance(inputs, StageInputs):
        return UnitRef(kind=inputs.stage, digest=digest_of(inputs))
    kinds: dict[type[UnitInputs], UnitKind] = {
        TrainInputs: "train",
        ExternalInputs: "train",
        GenerateInputs: "generate",
        GradeInputs: "grade",
        ReportInputs: "report",
    }
    return UnitRef(kind=kinds[type(inputs)], digest=digest_of(inputs))
