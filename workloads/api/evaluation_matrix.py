"""The evaluations of an experiment: every model on every part of every benchmark, and their units. Pure.

The controller's decisions and the manifest both use this list. Units of later stages are known only after the stage
before has committed: `generate_inputs` needs a checkpoint's marker, `grade_inputs` the marker of the outputs.
"""

from dataclasses import dataclass
from functools import lru_cache

from workloads.api import store_keys
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenPart, FrozenRun
from workloads.api.records import CheckpointRecord, Marker
from workloads.api.units import (
    GRADER_VERSION,
    ExternalInputs,
    GenerateInputs,
    GradeInputs,
    ModelContent,
    Prompting,
    TrainInputs,
    UnitRef,
    unit_of,
)


@dataclass(frozen=True)
class Model:
    """The base (`run` None), or a run's checkpoint at `samples`."""

    run: FrozenRun | None = None
    samples: int = 0

    @property
    def id(self) -> str:
        """base, run@samples, or a candidate's name."""
        if self.run is None:
            return "base"
        return self.run.name if self.run.role == "candidate" else f"{self.run.name}@{self.samples}"


@dataclass(frozen=True)
class WantedEvaluation:
    """One model on one part of one benchmark."""

    model: Model
    benchmark: FrozenBenchmark
    part: FrozenPart

    @property
    def id(self) -> str:
        return f"{self.model.id} {self.benchmark.name}/{self.part.name}"


def train_unit(run: FrozenRun) -> UnitRef:
    return _train_unit(run.inputs)


@lru_cache(maxsize=1024)
def _train_unit(inputs: TrainInputs | ExternalInputs) -> UnitRef:
    return unit_of(inputs)


def checkpoint_samples(run: FrozenRun, markers: dict[str, Marker]) -> tuple[int, ...]:
    """Returns the sample counts of the run's checkpoints: the stated ones, or all that exist (external, none
    stated).
    """
    if run.checkpoints:
        return run.checkpoints
    return tuple(sorted(m.record.samples for m in markers.values() if isinstance(m.record, CheckpointRecord)))


def models(frozen: FrozenExperiment, markers: dict[UnitRef, dict[str, Marker]]) -> tuple[Model, ...]:
    """Returns the base, then each run's checkpoints in training order. `markers`: by train unit and name."""
    found = [Model()]
    for run in frozen.runs:
        committed = markers.get(train_unit(run), {})
        found += [Model(run, samples) for samples in checkpoint_samples(run, committed)]
    return tuple(found)


def evaluation_matrix(
    frozen: FrozenExperiment, markers: dict[UnitRef, dict[str, Marker]]
) -> tuple[WantedEvaluation, ...]:
    """Returns every evaluation by part.

    For instance, distill-16-02 has 38 evaluations; the base's two have two parts each.
    """
    return tuple(
        WantedEvaluation(model, benchmark, part)
        for model in models(frozen, markers)
        for benchmark in frozen.benchmarks
        for part in _parts(benchmark, model)
    )


def _parts(benchmark: FrozenBenchmark, model: Model) -> tuple[FrozenPart, ...]:
    if model.run is None:
        names = set(benchmark.base_parts)
    elif _confirmed(benchmark, model.run, model.samples):
        names = {part.name for part in benchmark.parts}
    else:
        names = set(benchmark.checkpoint_parts)
    return tuple(part for part in benchmark.parts if part.name in names)


def _confirmed(benchmark: FrozenBenchmark, run: FrozenRun, samples: int) -> bool:
    last = bool(run.checkpoints) and samples == run.checkpoints[-1]
    named = {f"{run.name}@{samples}"} | ({f"{run.name}@last"} if last else set())
    if run.role == "candidate":
        named.add(run.name)
    return not named.isdisjoint(benchmark.confirm)


def prompting_of(want: WantedEvaluation) -> Prompting:
    run = want.model.run
    return want.benchmark.base_prompting if run is None else want.benchmark.trained_prompting[run.name]


def checkpoint_of(want: WantedEvaluation, markers: dict[str, Marker]) -> Marker | None:
    """Returns the committed checkpoint from its train unit's markers."""
    marker = markers.get(store_keys.checkpoint_marker(want.model.samples))
    return marker if marker is not None and isinstance(marker.record, CheckpointRecord) else None


def model_content(frozen: FrozenExperiment, checkpoint: Marker | None) -> ModelContent:
    """`checkpoint`: None for the base alone. The content of a whole model is `model_content` in its record."""
    if checkpoint is None:
        return ModelContent(base=frozen.base.content)
    record = checkpoint.record
    if isinstance(record, CheckpointRecord) and record.weights == "model":
        return ModelContent(base=record.model_content or f"sha256:{checkpoint.content}")
    return ModelContent(base=frozen.base.content, adapter=checkpoint.content)


def generate_inputs(frozen: FrozenExperiment, want: WantedEvaluation, checkpoint: Marker | None) -> GenerateInputs:
    return GenerateInputs(
        model=model_content(frozen, checkpoint),
        benchmark_content=want.benchmark.source.sha256,
        problems=want.part.problems,
        prompting=prompting_of(want),
        sampling=frozen.sampling,
        limit_tokens=frozen.budgets[-1],
        stop_token_ids=frozen.stop_token_ids,
        engine=frozen.engine,
        epoch=frozen.epoch,
        opening=() if prompting_of(want).template.name == "base" else frozen.opening,
    )


def grade_inputs(frozen: FrozenExperiment, want: WantedEvaluation, outputs: Marker) -> GradeInputs:
    run = want.model.run
    return GradeInputs(
        outputs_content=outputs.content,
        benchmark_content=want.benchmark.source.sha256,
        grader=want.benchmark.grader,
        completion=want.benchmark.completion,
        completion_pattern=want.benchmark.completion_pattern,
        thinking=frozen.base_thinking if run is None else run.thinking,
        budgets=frozen.budgets,
        prefill=prompting_of(want).prefill,
        grader_version=want.benchmark.grader_version or GRADER_VERSION,
    )


def is_external(run: FrozenRun) -> bool:
    return isinstance(run.inputs, ExternalInputs)
