"""The inputs of each unit in the terms of the experiment file, for `potstill diff`. Pure.

A frozen experiment has all inputs. A manifest has those of its results, so that two results can be compared without
their files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from workloads.api.evaluation_matrix import (
    WantedEvaluation,
    evaluation_matrix,
    generate_inputs,
    prompting_of,
    train_unit,
)
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenRun
from workloads.api.manifest import Manifest, ManifestEvaluation, ManifestModel, ManifestRun
from workloads.api.model import canonical_json, sha256_of
from workloads.api.units import EngineIdentity, ExternalInputs, Sampling, Template, TrainInputs, unit_of
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN

Fields = dict[str, JsonValue]

CHECKPOINT = "its checkpoint"
OUTPUTS = "its outputs"
"""Fields for the result of another unit. They differ if that unit differs; their values are not informative."""

WORDS = {"start": "startFrom"}
"""Names in the experiment file of a training's inputs, where they differ."""

STATE = "its state"
"""The state of an evaluation in a manifest. If it differs, one side has no result and no fields to compare."""


@dataclass(frozen=True)
class AskedUnit:
    """`fields`: the inputs of its result, by place in the experiment file.

    `digest`: None if it is unknown before it runs.
    """

    kind: str
    name: str
    fields: Mapping[str, JsonValue]
    digest: str | None = None


def asked_by_experiment(frozen: FrozenExperiment) -> tuple[AskedUnit, ...]:
    trained = [AskedUnit(TRAIN.unit_kind, run.name, _run_fields(run), train_unit(run).digest) for run in frozen.runs]
    asked = [unit for want in evaluation_matrix(frozen, {}) for unit in _evaluation_units(frozen, want)]
    return (*trained, *asked)


def asked_by_manifest(manifest: Manifest) -> tuple[AskedUnit, ...]:
    trained = [AskedUnit(TRAIN.unit_kind, run.name, _manifest_run_fields(run), run.digest) for run in manifest.runs]
    models = {model.id: model for model in manifest.models}
    asked = [
        unit for item in manifest.evaluations for unit in _manifest_evaluation_units(manifest, models[item.model], item)
    ]
    return (*trained, *asked)


def _run_fields(run: FrozenRun) -> Fields:
    if isinstance(run.inputs, TrainInputs):
        return dict(_training(run.name, run.data or "", run.inputs))
    return dict(_external(run, run.inputs))


def _manifest_run_fields(run: ManifestRun) -> Fields:
    """Returns fields of a run in a manifest, which has no inputs of runs that were trained elsewhere."""
    return dict(_training(run.name, run.data_name or "", run.inputs)) if run.inputs is not None else {}


def _training(run: str, data: str, inputs: TrainInputs) -> Iterator[tuple[str, JsonValue]]:
    of_data, of_run = f"spec.data.{data}", f"spec.runs[{run}]"
    yield "spec.base", inputs.base_content
    yield of_data, f"sha256:{inputs.data_content}"
    columns = inputs.columns.model_dump(mode="json", by_alias=True)
    yield from ((f"{of_data}.columns.{name}", value) for name, value in columns.items())
    yield f"{of_data}.onShort", inputs.on_short
    yield from _template(of_data, inputs.template)
    yield f"{of_run}.checkpointEverySamples", inputs.checkpoints[0] if inputs.checkpoints else None
    yield "spec.epoch", inputs.epoch
    yield "the trainer's arithmetic", inputs.numerics
    elsewhere = {"base_content", "data_content", "columns", "on_short", "template", "checkpoints"}
    if inputs.type == "full":
        yield f"{of_run}.method", inputs.type
    own = inputs.model_dump(mode="json", by_alias=True, exclude=elsewhere | {"type", "epoch", "numerics", "lora"})
    yield from ((f"{of_run}.{WORDS.get(name, name)}", value) for name, value in own.items())
    lora = inputs.lora.model_dump(mode="json", by_alias=True) if inputs.lora is not None else {}
    yield from ((f"{of_run}.lora.{name}", value) for name, value in lora.items())


def _template(place: str, template: Template) -> Iterator[tuple[str, JsonValue]]:
    yield f"{place}.template", template.name
    yield f"{place}.templateText", template.text
    yield f"{place}.system", template.system
    if template.variables:
        yield f"{place}.templateVariables", {item.name: item.value for item in template.variables}
    if template.date is not None:
        yield f"{place}.templateDate", template.date


def _external(run: FrozenRun, inputs: ExternalInputs) -> Iterator[tuple[str, JsonValue]]:
    yield "spec.base", inputs.base_content
    yield (
        (f"spec.candidates[{run.name}]" if run.role == "candidate" else f"spec.runs[{run.name}].checkpoints"),
        inputs.source,
    )
    yield f"spec.runs[{run.name}].checkpoints.expect", list(inputs.expect)
    yield "spec.epoch", inputs.epoch


def _evaluation_units(frozen: FrozenExperiment, want: WantedEvaluation) -> Iterator[AskedUnit]:
    run, benchmark = want.model.run, want.benchmark
    of_benchmark = f"spec.evaluation.benchmarks[{benchmark.name}]"
    checkpoint: Fields = {} if run is None else {CHECKPOINT: f"{train_unit(run).digest} {want.model.samples}"}
    generated: Fields = {
        "spec.base": frozen.base.content,
        **checkpoint,
        of_benchmark: f"sha256:{benchmark.source.sha256}",
        f"{of_benchmark}.problems": _problems(want.part.problems),
        **dict(_prompt(want, benchmark)),
        **_sampling(frozen.sampling),
        "spec.evaluation.budgets, the largest": frozen.budgets[-1],
        "the base's end tokens": list(frozen.stop_token_ids),
        **_engine(frozen.engine),
        "spec.epoch": frozen.epoch,
    }
    digest = unit_of(generate_inputs(frozen, want, None)).digest if run is None else None
    yield AskedUnit(GENERATE.unit_kind, want.id, generated, digest)
    thinking = "spec.base.thinking" if run is None else f"{_place(run)}.thinking"
    graded: Fields = {
        OUTPUTS: sha256_of(canonical_json(generated)),
        of_benchmark: f"sha256:{benchmark.source.sha256}",
        f"{of_benchmark}.grader": benchmark.grader,
        f"{of_benchmark}.completion": benchmark.completion,
        f"{of_benchmark}.completionPattern": benchmark.completion_pattern,
        thinking: frozen.base_thinking if run is None else run.thinking,
        "spec.evaluation.budgets": list(frozen.budgets),
    }
    yield AskedUnit(GRADE.unit_kind, want.id, graded)


def _place(run: FrozenRun) -> str:
    return f"spec.{'candidates' if run.role == 'candidate' else 'runs'}[{run.name}]"


def _prompt(want: WantedEvaluation, benchmark: FrozenBenchmark) -> Iterator[tuple[str, JsonValue]]:
    """Yields the prompt and its place in the file.

    A model is prompted as it was trained unless the benchmark states otherwise.
    """
    run, prompting = want.model.run, prompting_of(want)
    place = f"spec.evaluation.benchmarks[{benchmark.name}].{'basePrompt' if run is None else 'prompt'}"
    trained = run.inputs.template if run is not None and isinstance(run.inputs, TrainInputs) else None
    yield from _template(
        f"spec.data.{run.data}" if run and prompting.template == trained else place, prompting.template
    )
    yield f"{place}.instruction", prompting.instruction
    yield f"{place}.prefill", prompting.prefill
    yield f"{place}.stop", list(prompting.stop)


def _manifest_evaluation_units(
    manifest: Manifest, model: ManifestModel, item: ManifestEvaluation
) -> Iterator[AskedUnit]:
    """Prompts and outputs are identified only by their digests."""
    benchmark = next(b for b in manifest.benchmarks if b.name == item.benchmark)
    of_benchmark = f"spec.evaluation.benchmarks[{benchmark.name}]"
    place = f"{of_benchmark}.{'basePrompt' if model.kind == 'base' else 'prompt'}"
    name = f"{item.model} {item.benchmark}/{item.part}"
    generated: Fields = {
        "spec.base": manifest.base_content,
        **({} if model.kind == "base" else {CHECKPOINT: model.content}),
        of_benchmark: f"sha256:{benchmark.content}",
        f"{of_benchmark}.problems": _problems(item.problems),
        **({} if item.prompts_sha256 is None else {place: f"sha256:{item.prompts_sha256}"}),
        **_sampling(manifest.sampling),
        "spec.evaluation.budgets, the largest": manifest.budgets[-1],
        **({} if item.engine is None else _engine(item.engine)),
    }
    yield AskedUnit(GENERATE.unit_kind, name, generated, item.generate)
    thinking = {"base": "spec.base", "checkpoint": f"spec.runs[{model.run}]"}.get(
        model.kind, f"spec.candidates[{model.id}]"
    )
    graded: Fields = {
        OUTPUTS: item.generate,
        of_benchmark: f"sha256:{benchmark.content}",
        f"{of_benchmark}.grader": benchmark.grader,
        f"{thinking}.thinking": model.thinking,
        "spec.evaluation.budgets": list(manifest.budgets),
        STATE: item.state,
        **({} if item.grader_version is None else {"the grader's version": item.grader_version}),
    }
    yield AskedUnit(GRADE.unit_kind, name, graded, item.grade)


def _problems(ids: Iterable[str]) -> str:
    listed = list(ids)
    return f"{len(listed)} ({sha256_of(canonical_json(listed))[:8]})" if listed else "all"


def _sampling(sampling: Sampling) -> Fields:
    dumped = sampling.model_dump(mode="json", by_alias=True)
    return {f"spec.evaluation.sampling.{name}": value for name, value in dumped.items()}


def _engine(engine: EngineIdentity) -> Fields:
    """Fields that the profile decides have the names that the file would use."""
    dumped = engine.model_dump(mode="json", by_alias=True, exclude={"flags"})
    flags = {f"flags.{name}": value for name, value in engine.flags.items()}
    return {f"spec.evaluation.engine.{name}": value for name, value in (dumped | flags).items()}
