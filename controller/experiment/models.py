"""The experiment file, field by field. The CRD and the field reference are generated from these models.

Descriptions are what `kubectl explain` shows. Kubernetes' structural schemas have no unions, tuples or nullable
defaults that differ by branch, so these models have none either: alternatives are sibling fields, and `check` finds
wrong combinations.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from workloads.api.units import RegisteredName

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$", max_length=40)]
OVERRIDE = "Overrides the field under training."
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SpecModel(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _takes_no_yes_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read true as 1."""
        wanted = _types_in(cls.model_fields[info.field_name or ""].annotation)
        if bool not in wanted and wanted & {int, float}:
            for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else (value,):
                if isinstance(item, bool):
                    raise ValueError("must be a number, and YAML reads yes or no")
        return value


def _types_in(annotation: Any) -> set[Any]:
    """The types that an annotation is made of: of `list[int] | None` list, int and None."""
    parts = getattr(annotation, "__args__", ())
    return {getattr(annotation, "__origin__", None) or annotation}.union(*map(_types_in, parts))


class BaseSpec(SpecModel):
    """The model that training starts from and that checkpoints are compared with."""

    model: str = Field(min_length=1, description="Hub name (needs revision), s3:// prefix or directory of the weights.")
    revision: str | None = Field(
        None, pattern=r"^[0-9a-f]{40}$", description="Commit of a hub model: 40 hex digits, never a branch."
    )
    content: str | None = Field(None, description="Digest of s3:// weights: sha256:<64 hex>.")
    thinking: bool = Field(False, description="True: an answer of the base counts only after a closed </think>.")


class ColumnsSpec(SpecModel):
    """Names of the columns in the data."""

    prompt: str = Field("prompt", description="For format prompt: column of the prompt, a text or messages.")
    response: str = Field("response", description="For format prompt: column of the response, a text or messages.")
    messages: str | None = Field(
        None, description="Column of a conversation; default: messages, for format sharegpt conversations."
    )
    system: str | None = Field(
        None, description="Column of a row's system text; default: system if rows have it, none for format prompt."
    )
    tools: str | None = Field(
        None, description="Column of a conversation's tools; default: tools if rows have it, none for format prompt."
    )
    instruction: str | None = Field(None, description="For format alpaca; default: instruction.")
    input: str | None = Field(None, description="For format alpaca; default: input.")
    output: str | None = Field(None, description="For format alpaca; default: output.")


def _variable_text(value: object) -> object:
    """Returns YAML's true, 3 and 0.5 as text, because values in the CRD have one type."""
    return json.dumps(value) if isinstance(value, bool | int | float) else value


TemplateValue = Annotated[str, BeforeValidator(_variable_text)]


class DataSpec(SpecModel):
    """A data set: rows of prompt and response, or conversations (JSONL, JSON, CSV, Parquet); or a mixture of sets."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="A path or s3://bucket/key (of a file, or a directory of files), https:// or "
        "hf://datasets/NAME@REVISION/PATH. Not for a mixture.",
    )
    sha256: Sha256 | None = Field(
        None, description="SHA-256 of the file or directory; required unless uri is a local path or hf://."
    )
    format: Literal["prompt", "messages", "sharegpt", "alpaca"] = Field(
        "prompt",
        description="What a row is: prompt and response; messages (OpenAI's role and content); sharegpt (from and "
        "value); alpaca (instruction, input, output).",
    )
    loss: Literal["all", "last"] = Field(
        "all", description="Which of the assistant's turns in a conversation have loss: all, or the last."
    )
    mixture: dict[Name, float] = Field(
        {}, description="Instead of uri: names of other data sets and their weights, as shares of the samples."
    )
    columns: ColumnsSpec = ColumnsSpec()
    template: str = Field(
        "chatml", description="base (the base's own chat template), chatml, plain, or the path of a Jinja file."
    )
    template_text: str | None = Field(None, description="The Jinja template itself, instead of template.")
    template_variables: dict[str, TemplateValue] = Field(
        {}, description="Variables of the template, such as enable_thinking: false; a text that is JSON is parsed."
    )
    template_date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="The date that strftime_now returns; required if the template uses it.",
    )
    system: str | None = Field(None, description="System message for rows that have none.")
    on_short: Literal["fail", "repeat"] = Field(
        "fail", description="If fewer rows than samples are left: fail, or repeat rows."
    )
    domain: Name | None = Field(
        None,
        description="Domain of the data in one word: math, code, ... With two domains, findings compare forgetting.",
    )


class LoraSpec(SpecModel):
    """Low-rank adapters (Hu et al. 2021): which weights, rank and alpha; the update is scaled by alpha / rank."""

    rank: int = Field(32, gt=0, le=512, description="Rank of each adapter.")
    alpha: float = Field(32, gt=0, description="The update is scaled by alpha / rank.")
    target: list[ModuleName] = Field(
        ["attention"],
        min_length=1,
        max_length=64,
        description="Layers that get an adapter: attention, mlp, experts, all-linear, or names of linear modules.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the adapters' input; needs the general trainer.")
    rslora: bool = Field(False, description="True: scaled by alpha / sqrt(rank); needs the general trainer.")


class StartSpec(SpecModel):
    """An adapter on the base with which training starts, instead of a new one."""

    adapter: str = Field(min_length=1, description="s3:// prefix or directory of the adapter.")
    content: str | None = Field(None, description="Digest of an s3:// adapter: sha256:<64 hex>.")


class TrainingSpec(SpecModel):
    """Defaults for every run; a run may override any of them."""

    trainer: Literal["auto", "fast", "general"] = Field(
        "auto",
        description="fast: own kernels, for Qwen3; general: any causal language model of transformers; auto: fast "
        "where it can, else general.",
    )
    method: Literal["lora", "full"] = Field(
        "lora",
        description="lora: an adapter on the frozen base; full: all of the base's weights, by the general trainer.",
    )
    lora: LoraSpec = LoraSpec()
    start_from: StartSpec | None = Field(
        None,
        description="The adapter from which the general trainer starts. Fields of lora at their defaults are taken "
        "from it; others must be equal to its own.",
    )
    sharding: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether a training's GPUs divide the weights among them (FSDP2, general trainer); auto: where "
        "they would take more than 80% of one.",
    )
    learning_rate: float = Field(2.0e-4, gt=0, description="AdamW's, after the warm-up.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls from its peak to the last step."
    )
    warmup_steps: int = Field(0, ge=0, description="Optimizer steps over which the learning rate rises from 0.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's.")
    gradient_clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: not clipped.")
    batch_size: int = Field(50, gt=0, description="Samples per optimizer step, over all GPUs.")
    samples: int | None = Field(None, gt=0, le=10**12, description="Samples consumed over the whole run.")
    epochs: float | None = Field(
        None, gt=0, le=1000, description="Instead of samples: passes over the rows that are left after the limit."
    )
    sequence_tokens: int | None = Field(None, gt=1, description="Limit of prompt + response.")
    overlong: Literal["truncate", "drop"] | None = Field(
        None, description="What happens to a sample over sequenceTokens: cut at the limit, or left out."
    )
    checkpoint_every_samples: int | None = Field(
        None,
        gt=0,
        description="The number of samples between checkpoints; the last is at the end; default: at the end only.",
    )
    validation_share: float = Field(0.0, ge=0, le=0.5, description="Share of the rows held out for a validation loss.")
    precision: Literal["float32", "bfloat16"] | None = Field(
        None, description="Of the base's weights and activations; default: the profile's."
    )
    seed: int = Field(0, description="Seed of the samples' order and of the adapters' initial values.")


class ExternalCheckpoints(SpecModel):
    """Checkpoints that another trainer writes."""

    watch: str | None = Field(None, description="s3:// prefix or directory under which checkpoints appear.")
    ready: str | None = Field(None, description="Name of the file that marks a checkpoint as complete.")
    publish: bool = Field(False, description="True: `potstill publish` commits them.")
    expect: list[int] = Field(
        [], max_length=1000, description="Sample counts of the checkpoints to wait for, ascending."
    )


class RunSpec(SpecModel):
    """One training, or checkpoints of another trainer. Fields of training can be overridden here."""

    name: Name = Field(description="Unique among runs and candidates; run@samples names a checkpoint.")
    label: str | None = Field(None, description="For tables and plots; default: the name.")
    data: str | None = Field(None, description="Name of a data set under data.")
    checkpoints: ExternalCheckpoints | None = None
    thinking: bool = Field(True, description="True: an answer counts only after a closed </think>.")
    budget_tokens: int | None = Field(
        None, gt=0, description="Budget at which the tables show this run; default: its sequenceTokens."
    )
    trainer: Literal["auto", "fast", "general"] | None = Field(None, description=OVERRIDE)
    method: Literal["lora", "full"] | None = Field(None, description=OVERRIDE)
    lora: LoraSpec | None = Field(None, description=OVERRIDE)
    start_from: StartSpec | None = Field(None, description=OVERRIDE)
    sharding: Literal["auto", "always", "never"] | None = Field(None, description=OVERRIDE)
    learning_rate: float | None = Field(None, gt=0, description=OVERRIDE)
    schedule: Literal["cosine", "linear", "constant"] | None = Field(None, description=OVERRIDE)
    warmup_steps: int | None = Field(None, ge=0, description=OVERRIDE)
    weight_decay: float | None = Field(None, ge=0, description=OVERRIDE)
    gradient_clip: float | None = Field(None, ge=0, description=OVERRIDE)
    batch_size: int | None = Field(None, gt=0, description=OVERRIDE)
    samples: int | None = Field(None, gt=0, le=10**12, description=OVERRIDE)
    epochs: float | None = Field(None, gt=0, le=1000, description=OVERRIDE)
    sequence_tokens: int | None = Field(None, gt=1, description=OVERRIDE)
    overlong: Literal["truncate", "drop"] | None = Field(None, description=OVERRIDE)
    checkpoint_every_samples: int | None = Field(None, gt=0, description=OVERRIDE)
    validation_share: float | None = Field(None, ge=0, le=0.5, description=OVERRIDE)
    precision: Literal["float32", "bfloat16"] | None = Field(None, description=OVERRIDE)
    seed: int | None = Field(None, description=OVERRIDE)


class CandidateSpec(SpecModel):
    """An existing model: an adapter on the base, or whole weights."""

    name: Name = Field(description="Unique among runs and candidates.")
    label: str | None = Field(None, description="For tables and plots; default: the name.")
    adapter: str | None = Field(None, description="s3:// prefix or directory of the adapter.")
    model: str | None = Field(None, description="s3:// prefix or directory of whole weights.")
    content: str | None = Field(None, description="Digest of s3:// weights: sha256:<64 hex>.")
    template: str = Field(
        "chatml", description="How prompts are rendered for it: base, chatml, plain, or a Jinja file."
    )
    template_text: str | None = Field(None, description="The Jinja template itself, instead of template.")
    thinking: bool = Field(True, description="True: an answer counts only after a closed </think>.")
    budget_tokens: int | None = Field(
        None, gt=0, description="Budget at which the tables show it; default: the largest."
    )


class PromptSpec(SpecModel):
    """How a problem becomes a prompt. {problem} in instruction is replaced by the problem."""

    template: str | None = Field(
        None, description="base, chatml, plain, or a Jinja file; default: as trained, for the base plain."
    )
    template_text: str | None = Field(None, description="The Jinja template itself, instead of template.")
    instruction: str | None = Field(None, description="Text of the prompt, with {problem}; default: only the problem.")
    prefill: str | None = Field(None, description="Beginning of the answer; it is graded with the output.")
    stop: list[str] = Field([], description="Strings at which generation stops; they are kept in the output.")


class BenchmarkSpec(SpecModel):
    """A built-in benchmark (math-500, mbpp-plus, gsm8k, humaneval-plus) or your own JSONL."""

    name: Name = Field(description="A built-in benchmark's, or with uri one of your own.")
    uri: str | None = Field(None, description="Your own problems: s3://bucket/key.jsonl or a path; not for built-ins.")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the file; required unless it is a local path.")
    grader: RegisteredName | None = Field(None, description="math, code, exact or choice; required with uri.")
    completion: Literal["boxed", "fenced", "any", "pattern"] | None = Field(
        None, description="What a complete answer is; default: boxed for math, fenced for code, any otherwise."
    )
    completion_pattern: str | None = Field(
        None, description="Regular expression of RE2 within one line, with completion: pattern."
    )
    checkpoints: Literal["fast", "full", "none"] = Field("full", description="Which problems checkpoints answer.")
    base: Literal["fast", "full", "none"] = Field("full", description="Which problems the base answers.")
    domain: Name | None = Field(
        None, description="Domain in one word, as under data; default: that of the built-in benchmark, math or code."
    )
    limit: int | None = Field(None, gt=0, description="Only this many problems from the start of the file.")
    problems: list[str] = Field([], max_length=2000, description="Only these problem ids.")
    confirm: list[str] = Field(
        [], max_length=64, description="run@samples or run@last of checkpoints that answer all problems."
    )
    prompt: PromptSpec = PromptSpec()
    base_prompt: PromptSpec = PromptSpec()


class SamplingSpec(SpecModel):
    """How tokens are chosen; default: the most likely token, one output per problem."""

    temperature: float = Field(0.0, ge=0, description="0: always the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1, description="Only the most likely tokens, up to this total probability.")
    n: int = Field(1, gt=0, le=64, description="Outputs per problem.")
    seed: int = Field(0, description="Seed of sampling, with a temperature.")


class EngineSpec(SpecModel):
    """The engine that generates; default: the profile's."""

    name: RegisteredName | None = Field(
        None, description="The engine that the profile must have: transformers or vllm."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, description="Default: the profile's.")
    batch_invariant: bool = Field(
        False, description="vLLM: outputs that do not depend on other requests in the batch; slower."
    )


class EvaluationSpec(SpecModel):
    """The benchmarks and settings with which every checkpoint and the base are evaluated."""

    benchmarks: list[BenchmarkSpec] = Field(min_length=1, max_length=16, description="What is asked.")
    sampling: SamplingSpec = SamplingSpec()
    budgets: list[int] = Field(
        min_length=1,
        max_length=16,
        description="Numbers of new tokens at which outputs are graded; generated once, to the largest.",
    )
    engine: EngineSpec = EngineSpec()


class RequirementSpec(SpecModel):
    """A score that must not drop by more than maxDrop."""

    benchmark: Name = Field(description="Name of a benchmark under evaluation.")
    metric: Literal["accuracy", "completed", "strict"] = Field(
        "accuracy", description="Right answers, complete answers, or answers that are both."
    )
    max_drop: float = Field(ge=0, le=1, description="Largest drop from the baseline that is allowed, as a share.")


class GateSpec(SpecModel):
    """Non-inferiority of a candidate against a baseline, on the same problems."""

    candidate: str = Field(description="run@samples, run@last, or a candidate's name.")
    baseline: str = Field("base", description="base, run@samples, run@last, a candidate, or a manifest's URL.")
    require: list[RequirementSpec] = Field(min_length=1, max_length=64, description="All of them must be met.")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Probability to pass a candidate that is worse by more than maxDrop."
    )
    budget_tokens: int | None = Field(None, gt=0, description="Default: the largest budget.")


class LimitsSpec(SpecModel):
    """When units are given up, and how much runs at one time."""

    attempts: int = Field(3, gt=0, le=20, description="Failures in a row after which a unit is given up.")
    preemptions: int = Field(
        20, ge=0, description="Preemptions or losses of a node in a row after which a unit is given up."
    )
    no_progress_seconds: float = Field(1800, gt=0, description="An attempt is ended after this time without progress.")
    pending_seconds: float | None = Field(
        None, gt=0, description="A Job that has not started after this time is ended; default: no limit."
    )
    gpu_seconds: float | None = Field(
        None, gt=0, description="No new unit starts after this many GPU-seconds; default: no limit."
    )
    training_slots: int | None = Field(
        None, gt=0, description="Trainings that run at one time; default: the profile's."
    )
    evaluation_slots: int | None = Field(
        None, gt=0, description="Generating tasks that run at one time; default: the profile's."
    )


class ExperimentSpec(SpecModel):
    """What to train, how to evaluate every checkpoint, and what the gate requires."""

    base: BaseSpec
    profile: str | None = Field(None, description="Name of the admin's profile; default: default.")
    data: dict[str, DataSpec] = Field({}, description="Data sets by the names that runs use.")
    training: TrainingSpec = TrainingSpec()
    runs: list[RunSpec] = Field(
        [], max_length=32, description="Trainings, or checkpoints of other trainers; each is a series of checkpoints."
    )
    candidates: list[CandidateSpec] = Field(
        [], max_length=32, description="Existing models that are evaluated in the same way."
    )
    evaluation: EvaluationSpec
    gate: GateSpec | None = None
    limits: LimitsSpec = LimitsSpec()
    suspend: bool = Field(False, description="True: running trainings save their state and end; no task starts.")
    deletion_policy: Literal["Retain", "Delete"] = Field(
        "Retain", description="Whether the results' folder is kept or deleted when the Experiment is deleted."
    )
    epoch: int = Field(0, ge=0, description="Raise it to compute all results again.")


class Metadata(BaseModel):
    """Kubernetes' metadata: Potstill uses the name and keeps all other fields."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=52)]
    namespace: str | None = None


class Experiment(SpecModel):
    api_version: Literal["potstill.dev/v1alpha1"]
    kind: Literal["Experiment"]
    metadata: Metadata
    spec: ExperimentSpec
