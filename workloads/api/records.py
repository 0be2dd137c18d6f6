"""Records of an attempt in the store: markers with their records, progress, failure, and the end of a task."""

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from workloads.api.model import Contract, canonical_json, sha256_of
from workloads.api.units import EngineIdentity, Sha256, UnitKind, UnitRef


class ExitCode(IntEnum):
    """The request that a program makes by its exit code.

    Any other code (1, 137, 139 ...) is a crash, after which the task is tried again.
    """

    OK = 0
    BAD_CONFIGURATION = 10
    BAD_DATA = 11
    SUPERSEDED = 12
    DIVERGED = 13
    TERMINATED = 15
    STORE_UNAVAILABLE = 16


NO_RETRY = frozenset({ExitCode.BAD_CONFIGURATION, ExitCode.BAD_DATA, ExitCode.DIVERGED})


class FileRef(Contract):
    """`name` is relative to the marker, and is what readers use. `key` is the location in the store."""

    name: str
    key: str
    size: int = Field(ge=0)
    sha256: Sha256


class DataStatistics(Contract):
    """How the template, the limit and the filter changed the data. Lengths in tokens, prompt + response."""

    rows: int
    kept: int
    dropped: int
    truncated: int
    without_supervision: int
    consumed: int
    distinct_consumed: int
    supervised_tokens: int
    total_tokens: int
    length_percentiles: dict[str, int] = Field(description="of all rows before the filter: p1, p10, p50, p90, p99, max")
    kept_length_percentiles: dict[str, int]
    supervises_think_close: float = Field(description="share of consumed samples whose loss covers </think>")
    supervises_end: float = Field(description="share of consumed samples whose loss covers the end token")


class Canary(Contract):
    """Log-probabilities (natural log) of `token_ids[1:]` with the base and with the checkpoint."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    base_log_probs: tuple[float, ...]


class CheckpointRecord(Contract):
    """`weights`: adapter if the marker's files are the adapter; model if they are whole weights in Hugging Face layout.

    Whole weights of another trainer are not copied: they are at `location`, and the marker has no files.
    """

    type: Literal["checkpoint"] = "checkpoint"
    samples: int
    step: int
    weights: Literal["adapter", "model"] = "adapter"
    location: str | None = None
    model_content: str | None = Field(None, description="weights model: their content, as ModelSource.content")
    learning_rate: float | None = None
    loss: float | None = Field(None, description="mean over the supervised tokens since the checkpoint before, nats")
    validation_loss: float | None = None
    tokens: int | None = None
    canaries: tuple[Canary, ...] = ()


class StateRecord(Contract):
    """A resume state, which is not a result. The last two are kept."""

    type: Literal["state"] = "state"
    step: int
    samples: int


class TrainRecord(Contract):
    type: Literal["train"] = "train"
    samples: int
    steps: int
    data: DataStatistics | None
    final_loss: float | None
    train_seconds: float
    tokens_per_second: float | None
    device: str
    devices: int
    versions: dict[str, str]
    end_token: str | None = Field(None, description="what closes every response: the end token that the base knows")
    end_token_id: int | None = None
    trainer: Literal["fast", "general"] | None = Field(None, description="None: fast, before there was a choice")
    warnings: tuple[str, ...] = ()


class OutputsRecord(Contract):
    """The outputs of one generate unit: file `outputs.jsonl` (one `Output` a line).

    `tokenizer`: a blob of the base's tokenizer.
    """

    type: Literal["outputs"] = "outputs"
    engine: EngineIdentity
    outputs: int
    generated_tokens: int
    finish_reasons: dict[str, int]
    prompts_sha256: Sha256
    tokenizer_sha256: Sha256
    seconds: float = Field(description="wall time of this unit's share of the engine")
    output_seconds: tuple[float, ...] = Field((), description="from its start to its end, in the order of the file")
    canary_error: float | None = Field(None, description="largest |log-prob - trainer's|, nats")
    versions: dict[str, str]


class BudgetCounts(Contract):
    """Counts of outputs at one budget. `right` includes uncompleted outputs; errors are in no other count."""

    budget: int
    outputs: int
    completed: int
    right: int
    right_and_completed: int
    wrong: int
    no_answer: int
    errors: int
    causes: dict[str, int]


class GradesRecord(Contract):
    """The verdicts of one grade unit: file `grades.jsonl` (one `Grade` a line: an output at a budget)."""

    type: Literal["grades"] = "grades"
    budgets: tuple[BudgetCounts, ...]
    grader_version: str
    sandbox: tuple[str, ...] = Field((), description="layers of isolation that held while code ran")
    asked_again: int = Field(
        0, ge=0, description="executions and checks that failed for no fault of an answer, and were asked again alone"
    )
    seconds: float
    versions: dict[str, str]


class ReportRecord(Contract):
    type: Literal["report"] = "report"
    manifest_sha256: Sha256
    report_version: str


class StageRecord(Contract):
    """The result of an added stage. `values`: measured values by name; further results are files of the marker."""

    type: Literal["stage"] = "stage"
    stage: UnitKind
    stage_version: str
    values: dict[str, str | int | float | bool | None] = {}


Record = Annotated[
    CheckpointRecord | StateRecord | TrainRecord | OutputsRecord | GradesRecord | ReportRecord | StageRecord,
    Field(discriminator="type"),
]


class Marker(Contract):
    """Commits a set of files of one attempt. It is written last, If-None-Match: *.

    `content` is `content_of(files)`: two markers with equal content have the same result, also if they come from two
    attempts. `parent` is the name of the marker that this one continues (the state before a checkpoint or a state).
    `checksum` is `checksum_of` the marker's JSON; markers of older versions have none.
    """

    schema_version: Literal[1] = 1
    unit: UnitRef
    name: str
    attempt: int = Field(gt=0)
    content: Sha256
    files: tuple[FileRef, ...]
    parent: str | None = None
    created: AwareDatetime
    record: Record
    checksum: Sha256 | None = None

    def with_checksum(self) -> "Marker":
        """Returns the same marker with its checksum."""
        return self.model_copy(update={"checksum": checksum_of(json.loads(self.to_json()))})


def checksum_of(marker: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a marker's canonical JSON without its `checksum`, 64 hex digits.

    It is computed from the JSON as it was written, so that fields of later versions do not change it.
    """
    return sha256_of(canonical_json({name: value for name, value in marker.items() if name != "checksum"}))


def content_of(files: tuple[FileRef, ...]) -> str:
    """Returns the digest of names, sizes and hashes; it does not depend on the files' locations and order."""
    listed = sorted([file.name, file.size, file.sha256] for file in files)
    return sha256_of(canonical_json(listed))


class Output(Contract):
    """One generated text: a line of outputs.jsonl. `token_ids` exclude the prompt and include the end token, if any.

    It has no times, because the file's hash identifies the outputs, and equal outputs are graded once.
    """

    problem: str
    index: int = Field(0, description="0 .. n-1 of the sampled outputs")
    prompt_sha256: Sha256
    prompt_tokens: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length", "error"]


class Progress(Contract):
    """The attempt overwrites it while it runs.

    `done` of `total` in the unit `counted`; the other fields are informative.
    """

    attempt: int
    updated: AwareDatetime
    phase: str
    done: int
    total: int
    counted: Literal["steps", "outputs", "problems", "evaluations", "checkpoints"]
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    members: dict[str, int] = Field({}, description="outputs or problems done, by member digest")
    loading: str | None = Field(None, description="member whose weights are being loaded: who to suspect after a crash")
    room: int = Field(0, ge=0, description="evaluations that a working engine could begin with now, were they offered")


class Failure(Contract):
    """Why an attempt failed, as its program reports it."""

    exit_code: int
    reason: str = Field(pattern=r"^[A-Z][A-Za-z]+$")
    message: str
    traceback: str | None = None
    member: str | None = Field(None, description="digest of the group's member that is to blame")


Ending = Literal["succeeded", "failed", "superseded", "lost", "suspended", "preempted", "deleted"]


class ProgramEnd(Contract):
    """How the program of a task ended."""

    outcome: Ending
    exit_code: int | None = None
    reason: str
    message: str


class TaskEnd(Contract):
    """Written once per task, by the first writer (If-None-Match).

    `counts_as_failure`: it uses up one of the unit's attempts; the JSON has it as `charged`.
    """

    schema_version: Literal[1] = 1
    number: int
    outcome: Ending
    exit_code: int | None = None
    reason: str
    message: str
    program: ProgramEnd | None = Field(None, description="of the whole group, where the lead's own end is another")
    counts_as_failure: bool = Field(alias="charged")
    retry: bool = Field(description="False: another attempt cannot help")
    member: str | None = Field(None, description="digest of the group's member that was suspected")
    suspects: int = Field(1, ge=0, description="members of the group that had no result when it ended")
    gpu_seconds: float = Field(0.0, ge=0, description="of the whole task, on its lead's end only")
    ended: AwareDatetime
