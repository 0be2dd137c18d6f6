"""Resolves the file to the accepted experiment: with digests of all files, with defaults, and without open
references.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path as FilePath

from controller.experiment.benchmarks import resolve_benchmark
from controller.experiment.errors import Path, SpecError, SpecProblem
from controller.experiment.files import local_path, resolve_adapter, resolve_data, resolve_model
from controller.experiment.models import CandidateSpec, Experiment, ExperimentSpec, LoraSpec, RunSpec
from controller.experiment.profile import Profile
from controller.experiment.start import lora_of_start, resolve_start
from controller.experiment.templates import template_of
from controller.experiment.trainer import (
    base_config,
    base_opening,
    check_base,
    check_sharding,
    choose_trainer,
    trains_experts,
)
from controller.experiment.validate import checkpoints_of, stated_length
from controller.plan_cost import gpus_of
from controller.training_data import NotReadableHere, count_rows
from workloads.api.experiment import FrozenExperiment, FrozenGate, FrozenRequirement, FrozenRun, Limits
from workloads.api.model import canonical_json, sha256_of
from workloads.api.tasks import FileSource, ModelSource
from workloads.api.units import (
    NUMERICS,
    Columns,
    EngineIdentity,
    ExternalInputs,
    Lora,
    MixturePart,
    Sampling,
    Template,
    TrainInputs,
)
from workloads.models import architecture_of
from workloads.registry import RegistryError
from workloads.stages.registry import STAGES


def resolve(
    experiment: Experiment, directory: FilePath, profile: Profile, accepted: datetime, uid8: str | None = None
) -> FrozenExperiment:
    """Returns the accepted experiment. `directory`: the experiment file's folder, for relative paths.

    Without a cluster's `uid8` the experiment is identified by its content, so that the same file continues where it
    stopped. Raises SpecError for problems that appear only when the files are read.
    """
    spec = experiment.spec
    base = resolve_model(
        spec.base.model, ("spec", "base", "model"), directory, revision=spec.base.revision, content=spec.base.content
    )
    config = base_config(base)
    check_base(config, spec)
    architecture = None if config is None else architecture_of(config)
    data = {
        name: resolve_data(item.uri, item.sha256, ("spec", "data", name), directory)
        for name, item in spec.data.items()
        if item.uri is not None
    }
    templates = {
        name: template_of(
            item.template,
            item.template_text,
            item.system,
            directory,
            ("spec", "data", name),
            item.template_variables,
            item.template_date,
        )
        for name, item in spec.data.items()
    }
    runs = (
        *(
            _run(experiment, index, base, architecture, data, templates, profile, directory)
            for index in range(len(spec.runs))
        ),
        *(_candidate(spec, candidate, index, base, directory) for index, candidate in enumerate(spec.candidates)),
    )
    prompt_templates = _prompt_templates(spec, templates, directory)
    benchmarks = tuple(
        resolve_benchmark(benchmark, index, prompt_templates, directory)
        for index, benchmark in enumerate(spec.evaluation.benchmarks)
    )
    frozen = FrozenExperiment(
        name=experiment.metadata.name,
        uid8=uid8 or "0" * 8,
        accepted=accepted,
        spec_sha256=sha256_of(canonical_json(spec.model_dump(mode="json", by_alias=True))),
        base=base,
        base_name=spec.base.model if "/" not in spec.base.model else spec.base.model.rstrip("/").rsplit("/", 1)[-1],
        base_thinking=spec.base.thinking,
        runs=runs,
        benchmarks=benchmarks,
        sampling=Sampling.model_validate(spec.evaluation.sampling.model_dump()),
        budgets=tuple(spec.evaluation.budgets),
        engine=_engine(spec, profile),
        opening=base_opening(base),
        epoch=spec.epoch,
        gate=_gate(spec),
        limits=_limits(spec, profile),
        allow_unsandboxed=profile.allow_unsandboxed,
        profile=profile.model_dump(mode="json", by_alias=True),
        stages=_added_stages(),
    )
    return frozen if uid8 else frozen.model_copy(update={"uid8": _question_digest(frozen)[:8]})


def _added_stages() -> tuple[str, ...]:
    """Returns the names of stages that other distributions add. Raises SpecError for one that cannot be used."""
    try:
        return tuple(STAGES[name].name for name in STAGES.added)
    except RegistryError as error:
        raise SpecError("stages", [SpecProblem((), str(error))]) from error


def _question_digest(frozen: FrozenExperiment) -> str:
    """Returns the digest of the content, without the time, the locations of files and the numbers of pods.

    A domain that is not stated is left out: the digest is what it was before there were domains. So are epochs, for
    the digest holds the samples that they come to.
    """
    asked = frozen.model_dump(mode="json", exclude={"accepted", "uid8", "limits", "profile", "spec_sha256"})
    for item in (*asked["runs"], *asked["benchmarks"]):
        if item["domain"] is None:
            del item["domain"]
        item.pop("epochs", None)
    return sha256_of(canonical_json(_without_locations(asked)))


def _without_locations(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key != "location"}
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    return value


def _parts(spec: ExperimentSpec, name: str, data: dict[str, FileSource]) -> list[tuple[MixturePart, FileSource]]:
    """Returns the data sets of a run: those of the mixture by name, or the single one."""
    weights = spec.data[name].mixture or {name: 1.0}
    return [
        (
            MixturePart(
                data_content=data[part].sha256,
                columns=Columns.model_validate(spec.data[part].columns.model_dump()),
                format=spec.data[part].format,
                loss=spec.data[part].loss,
                weight=weight,
            ),
            data[part],
        )
        for part, weight in sorted(weights.items())
    ]


def _run(
    experiment: Experiment,
    index: int,
    base: ModelSource,
    architecture: str | None,
    data: dict[str, FileSource],
    templates: dict[str, Template],
    profile: Profile,
    directory: FilePath,
) -> FrozenRun:
    spec = experiment.spec
    run = spec.runs[index]
    common = {"name": run.name, "label": run.label or run.name, "thinking": run.thinking}
    if run.checkpoints is not None:
        external = run.checkpoints
        source = external.watch or f"published:{experiment.metadata.name}/{run.name}"
        if external.watch is not None and "://" not in external.watch:
            source = str(local_path(external.watch, ("spec", "runs", index, "checkpoints", "watch"), directory))
        return FrozenRun(
            **common,
            inputs=ExternalInputs(
                base_content=base.content,
                source=source,
                expect=() if external.publish else tuple(external.expect),
                epoch=spec.epoch,
            ),
            location=None if external.publish else source,
            ready=external.ready,
            published=external.publish,
            checkpoints=tuple(external.expect),
            budget_tokens=run.budget_tokens or spec.evaluation.budgets[-1],
        )
    assert run.data is not None
    parts = _parts(spec, run.data, data)
    start = resolve_start(spec, index, directory)
    inputs = _train_inputs(spec, run, index, base, architecture, [part for part, _ in parts], templates, profile, start)
    sources = tuple(source for _, source in parts)
    inputs = _with_length(spec, index, inputs, base, sources)
    return FrozenRun(
        **common,
        data=run.data,
        domain=spec.data[run.data].domain,
        inputs=inputs,
        data_source=sources[0],
        mixture_sources=sources if spec.data[run.data].mixture else (),
        start=start,
        epochs=stated_length(spec, run)[1],
        sharding=run.sharding or spec.training.sharding,
        checkpoints=inputs.checkpoints,
        budget_tokens=run.budget_tokens or _budget_of(inputs.sequence_tokens, spec.evaluation.budgets),
    )


def _budget_of(sequence_tokens: int, budgets: list[int]) -> int:
    """Returns the budget that equals the run's sequenceTokens, else the largest below it, else the smallest."""
    return max((budget for budget in budgets if budget <= sequence_tokens), default=budgets[0])


def _train_inputs(
    spec: ExperimentSpec,
    run: RunSpec,
    index: int,
    base: ModelSource,
    architecture: str | None,
    parts: list[MixturePart],
    templates: dict[str, Template],
    profile: Profile,
    start: ModelSource | None,
) -> TrainInputs:
    """Returns the run's own fields, with defaults from training.

    If a run states epochs, its samples is 1 and is replaced later.
    """
    stated = {name: value for name, value in run if value is not None}
    defaults = {name: value for name, value in spec.training if value is not None}
    merged = {**defaults, **{name: value for name, value in stated.items() if name in type(spec.training).model_fields}}
    lora = _lora(merged["lora"]) if merged["method"] == "lora" else None
    if lora is not None and start is not None:
        lora = lora_of_start(start, lora, _lora(LoraSpec()), ("spec", "runs", index))
    trainer = choose_trainer(merged["trainer"], architecture, lora, ("spec", "runs", index), starts=start is not None)
    check_sharding(
        merged["sharding"],
        trainer,
        gpus_of(profile.train),
        ("spec", "runs", index),
        with_experts=lora is not None and trains_experts(architecture, lora),
    )
    assert run.data is not None
    samples, epochs = stated_length(spec, run)
    is_mixture = bool(spec.data[run.data].mixture)
    contents = canonical_json([part.data_content for part in parts])
    return TrainInputs(
        type=merged["method"],
        base_content=base.content,
        data_content=sha256_of(contents) if is_mixture else parts[0].data_content,
        columns=Columns() if is_mixture else parts[0].columns,
        format="prompt" if is_mixture else parts[0].format,
        loss="all" if is_mixture else parts[0].loss,
        mixture=tuple(parts) if is_mixture else (),
        template=templates[run.data],
        samples=samples or 1,
        batch_size=merged["batch_size"],
        sequence_tokens=merged["sequence_tokens"],
        overlong=merged["overlong"],
        on_short="repeat" if epochs is not None else spec.data[run.data].on_short,
        checkpoints=checkpoints_of(spec, run),
        lora=lora,
        learning_rate=merged["learning_rate"],
        schedule=merged["schedule"],
        warmup_steps=merged["warmup_steps"],
        weight_decay=merged["weight_decay"],
        gradient_clip=merged["gradient_clip"],
        validation_share=merged["validation_share"],
        precision=merged.get("precision") or profile.precision,
        seed=merged["seed"],
        epoch=spec.epoch,
        trainer=trainer,
        numerics=NUMERICS[trainer],
        start=None if start is None else start.content,
    )


def _lora(stated: LoraSpec) -> Lora:
    return Lora(
        rank=stated.rank,
        alpha=stated.alpha,
        target=tuple(sorted(set(stated.target))),
        dropout=stated.dropout,
        rslora=stated.rslora,
    )


def _with_length(
    spec: ExperimentSpec, index: int, inputs: TrainInputs, base: ModelSource, sources: Sequence[FileSource]
) -> TrainInputs:
    """Returns the inputs with the number of samples, for a run that states epochs. Counts the rows here.

    Raises SpecError if they cannot be counted.
    """
    run = spec.runs[index]
    epochs = stated_length(spec, run)[1]
    if epochs is None:
        return inputs
    place: Path = ("spec", "runs", index, "epochs")
    try:
        samples = max(1, round(epochs * count_rows(base, sources, inputs)))
    except NotReadableHere as error:
        message = f"the rows cannot be counted where the experiment is accepted ({error}): state samples instead"
        raise SpecError("experiment", [SpecProblem(place, message)]) from error
    return inputs.model_copy(update={"samples": samples, "checkpoints": checkpoints_of(spec, run, samples)})


def _candidate(
    spec: ExperimentSpec, candidate: CandidateSpec, index: int, base: ModelSource, directory: FilePath
) -> FrozenRun:
    """Returns a run with one existing checkpoint, which is identified by its content."""
    field = "adapter" if candidate.adapter is not None else "model"
    where = candidate.adapter or candidate.model
    assert where is not None
    place: Path = ("spec", "candidates", index, field)
    source = (
        resolve_model(where, place, directory, content=candidate.content)
        if field == "model"
        else resolve_adapter(where, candidate.content, place, directory)
    )
    return FrozenRun(
        name=candidate.name,
        label=candidate.label or candidate.name,
        role="candidate",
        inputs=ExternalInputs(base_content=base.content, source=source.content, epoch=spec.epoch),
        location=source.location,
        weights="adapter" if field == "adapter" else "model",
        checkpoints=(0,),
        budget_tokens=candidate.budget_tokens or spec.evaluation.budgets[-1],
        thinking=candidate.thinking,
    )


def _prompt_templates(spec: ExperimentSpec, templates: dict[str, Template], directory: FilePath) -> dict[str, Template]:
    """Returns the template of each run's or candidate's training, by name; chatml for runs of other trainers."""
    named = {run.name: templates[run.data] if run.data else Template() for run in spec.runs}
    for index, candidate in enumerate(spec.candidates):
        place = ("spec", "candidates", index)
        named[candidate.name] = template_of(candidate.template, candidate.template_text, None, directory, place)
    return named


def _engine(spec: ExperimentSpec, profile: Profile) -> EngineIdentity:
    asked = spec.evaluation.engine
    if asked.name is not None and asked.name != profile.engine.name:
        message = f"is {asked.name}, but profile {profile.name} has {profile.engine.name}"
        raise SpecError("experiment", [SpecProblem(("spec", "evaluation", "engine", "name"), message)])
    flags = dict(profile.engine.flags)
    if asked.batch_invariant:
        flags["batch_invariant"] = True
    return EngineIdentity(
        name=profile.engine.name,
        version=profile.engine.version,
        dtype=asked.dtype or profile.engine.dtype,
        gpu=profile.gpu,
        flags=flags,
    )


def _gate(spec: ExperimentSpec) -> FrozenGate | None:
    if spec.gate is None:
        return None
    return FrozenGate(
        candidate=spec.gate.candidate,
        baseline=spec.gate.baseline,
        require=tuple(FrozenRequirement.model_validate(item.model_dump()) for item in spec.gate.require),
        alpha=spec.gate.alpha,
        budget_tokens=spec.gate.budget_tokens or spec.evaluation.budgets[-1],
    )


def _limits(spec: ExperimentSpec, profile: Profile) -> Limits:
    stated = spec.limits
    return Limits(
        attempts=stated.attempts,
        preemptions=stated.preemptions,
        no_progress_seconds=stated.no_progress_seconds,
        pending_seconds=stated.pending_seconds,
        gpu_seconds=stated.gpu_seconds,
        training_slots=stated.training_slots or profile.training_slots,
        evaluation_slots=stated.evaluation_slots or profile.evaluation_slots,
        group_members=profile.group_members,
        batch_window_seconds=profile.batch_window_seconds,
        idle_timeout_seconds=profile.idle_timeout_seconds,
    )
