"""The manifest: all results of an experiment in one file. It is computed from records, always with the same bytes.

It has no time stamps and only values that can be found again from its digests. One line loads it:
`pandas.json_normalize(json.load(open("manifest.json"))["evaluations"])`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from workloads.api.experiment import FrozenGate, PartName
from workloads.api.model import Contract
from workloads.api.records import BudgetCounts, DataStatistics
from workloads.api.units import EngineIdentity, RegisteredName, Sampling, Sha256, TrainInputs

UnitState = Literal["waiting", "running", "done", "failed"]

VERDICT_CODES = {
    "R": "right and completed",
    "r": "right, not completed",
    "W": "wrong and completed",
    "w": "wrong, not completed",
    "N": "no answer, completed",
    "n": "no answer, not completed",
    "e": "error: not counted",
}


class ManifestModel(Contract):
    """An evaluated model. `id`: base, run@samples, or a candidate's name."""

    id: str
    kind: Literal["base", "checkpoint", "candidate"]
    run: str | None = None
    label: str
    samples: int | None = None
    step: int | None = None
    state: UnitState
    content: str | None = Field(None, description="adapter's or weights' content, once committed")
    learning_rate: float | None = None
    loss: float | None = None
    validation_loss: float | None = None
    thinking: bool
    budget_tokens: int
    reason: str | None = Field(None, description="why there is none, when it failed")


class LossPoint(Contract):
    step: int
    samples: int
    loss: float
    learning_rate: float
    tokens_per_second: float | None = None


class ManifestRun(Contract):
    name: str
    label: str
    role: Literal["run", "candidate"]
    digest: Sha256
    state: UnitState
    attempts: int
    inputs: TrainInputs | None = None
    data_name: str | None = None
    domain: str | None = Field(None, description="what its data teaches, as the experiment file states it")
    data: DataStatistics | None = None
    losses: tuple[LossPoint, ...] = Field((), description="at most 200, evenly spaced")
    train_seconds: float | None = None
    tokens_per_second: float | None = None
    device: str | None = None
    devices: int | None = None
    versions: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    reason: str | None = None


def _is_none(value: object) -> bool:
    return value is None


class BudgetVerdicts(Contract):
    """`verdicts` has one code of VERDICT_CODES per output: problems in order, outputs of a problem side by side."""

    counts: BudgetCounts
    verdicts: str
    suites: dict[str, str] = Field(
        {}, description="code: by suite of tests (MBPP+: base, plus), P passed or F not, one per output"
    )


class ManifestEvaluation(Contract):
    """One model on one part of one benchmark."""

    model: str
    benchmark: str
    part: PartName
    state: UnitState
    reason: str | None = None
    generate: Sha256 | None = None
    grade: Sha256 | None = None
    problems: tuple[str, ...] = ()
    outputs_per_problem: int = 1
    tokens: tuple[int, ...] = Field((), description="generated tokens per output")
    finish: str = Field("", description="s stop, l length, e error; one per output")
    budgets: tuple[BudgetVerdicts, ...] = ()
    generate_attempts: int = 0
    grade_attempts: int = 0
    generate_seconds: float | None = None
    prompts_sha256: Sha256 | None = None
    canary_error: float | None = None
    engine: EngineIdentity | None = None
    grader_version: str | None = None
    grader_python: str | None = Field(
        None, description="version of the Python that graded; left out where the record has none", exclude_if=_is_none
    )
    sandbox: tuple[str, ...] = ()
    asked_again: int = Field(0, description="gradings that failed and were asked again alone; `errors` are what stayed")
    answers: tuple[tuple[int, ...], ...] = Field(
        (), description="several outputs, not code: by budget, per output a number equal for equal answers, 0 for none"
    )

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        """Verdicts, tokens and finish have one entry per output, so that each is read as its own problem's."""
        outputs = len(self.problems) * self.outputs_per_problem
        if len(set(self.problems)) != len(self.problems):
            repeated = next(problem for problem in self.problems if self.problems.count(problem) > 1)
            raise ValueError(f"{self.id}: problem {repeated!r} is listed more than once")
        named = [("tokens", self.tokens), ("finish", self.finish)]
        named += [(f"verdicts at {item.counts.budget:,} tokens", item.verdicts) for item in self.budgets]
        named += [(f"letters of suite {name}", found) for item in self.budgets for name, found in item.suites.items()]
        for name, found in named:
            if len(found) != outputs:
                raise ValueError(
                    f"{self.id}: {len(found)} {name}, but {len(self.problems)} problems with "
                    f"{self.outputs_per_problem} outputs each need {outputs}"
                )
        return self

    @model_validator(mode="after")
    def _answers_of_outputs(self) -> Self:
        outputs = len(self.problems) * self.outputs_per_problem
        if self.answers and [len(found) for found in self.answers] != [outputs] * len(self.budgets):
            raise ValueError(f"{self.id}: answers need {outputs} numbers for each of {len(self.budgets)} budgets")
        return self

    @property
    def id(self) -> str:
        """Equals `Wanted.id`."""
        return f"{self.model} {self.benchmark}/{self.part}"


class ManifestBenchmark(Contract):
    name: str
    content: Sha256
    grader: RegisteredName
    problems: int
    parts: dict[str, int]
    domain: str | None = Field(None, description="what it asks, as the experiment file states it")


class Manifest(Contract):
    schema_version: Literal[1] = 1
    experiment: str
    uid8: str
    spec_sha256: str
    state: Literal["running", "succeeded", "partially_failed", "failed"]
    base_name: str
    base_content: str
    sampling: Sampling
    budgets: tuple[int, ...]
    runs: tuple[ManifestRun, ...]
    models: tuple[ManifestModel, ...]
    benchmarks: tuple[ManifestBenchmark, ...]
    evaluations: tuple[ManifestEvaluation, ...]
    gate: FrozenGate | None = None
