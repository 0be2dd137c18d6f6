"""Rules over several fields of an experiment. Each check is pure and returns its problems."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from controller.experiment.errors import Path, SpecProblem, listed, shortened
from controller.experiment.models import BenchmarkSpec, DataSpec, ExperimentSpec, LoraSpec, RunSpec, TrainingSpec
from workloads.api.units import ALL_LINEAR, KINDS
from workloads.benchmarks.pattern import PatternError, compile_pattern
from workloads.benchmarks.registry import BENCHMARKS
from workloads.engines.registry import ENGINES
from workloads.graders.registry import GRADERS
from workloads.models import FAMILIES
from workloads.registry import Registry, RegistryError
from workloads.stages.registry import STAGES
from workloads.storage.registry import STORES
from workloads.words import count_of

REGISTRIES: tuple[Registry[Any], ...] = (FAMILIES, BENCHMARKS, GRADERS, ENGINES, STORES, STAGES)
"""Registries that other distributions may add to. A duplicate name is a problem of every experiment."""


def check(spec: ExperimentSpec) -> list[SpecProblem]:
    """Returns all problems, each once, in the file's order. Without problems, the spec can be resolved."""
    wrong = [SpecProblem(("spec",), problem) for registry in REGISTRIES for problem in registry.problems()]
    if wrong:
        return wrong
    found = [
        *_base(spec),
        *_method(spec),
        *_targets(spec.training.lora.target, ("spec", "training", "lora", "target")),
        *_data(spec),
        *_names(spec),
        *_runs(spec),
        *_candidates(spec),
        *_evaluation(spec),
        *_gate(spec),
    ]
    return list(dict.fromkeys(found))


def _base(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    if spec.base.revision is not None and "://" in spec.base.model:
        yield SpecProblem(("spec", "base", "revision"), "is for hub models; this model is a location")


def _data(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    for name, data in spec.data.items():
        place: Path = ("spec", "data", name)
        if (data.uri is None) == (not data.mixture):
            yield SpecProblem((*place, "uri"), "is required (or mixture: names of other data sets and their weights)")
        if data.uri is not None and "://" in data.uri and data.sha256 is None and not data.uri.startswith("hf://"):
            yield SpecProblem(
                (*place, "sha256"),
                f"is required: {data.uri} is not a local file, so its content must be stated (sha256sum prints it)",
            )
        yield from _mixture(spec, data, place)
        in_mixture = any(name in other.mixture for other in spec.data.values())
        if not in_mixture and not any(run.data == name for run in spec.runs):
            yield SpecProblem(place, "is used by no run; remove it, or name it as a run's data")


def _mixture(spec: ExperimentSpec, data: DataSpec, place: Path) -> Iterable[SpecProblem]:
    parts = []
    for name, weight in data.mixture.items():
        part = spec.data.get(name)
        if part is None or part.mixture:
            why = "a mixture itself" if part is not None else f"not under data{nearest(name, spec.data)}"
            yield SpecProblem((*place, "mixture", name), f"{name} is {why}")
        else:
            parts.append(part)
        if not 0 < weight <= 1e9:
            yield SpecProblem((*place, "mixture", name), f"the weight is {weight}; it must be more than 0")
    for part in parts:
        for field in ("template", "template_text", "template_variables", "template_date", "system"):
            if getattr(part, field) != getattr(data, field):
                alias = DataSpec.model_fields[field].alias or field
                message = "must be the same here and in every part: evaluations ask with one template"
                yield SpecProblem((*place, alias), message)
                return


def _names(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    yield from _twice(("spec", "runs"), [run.name for run in spec.runs])
    yield from _twice(("spec", "candidates"), [candidate.name for candidate in spec.candidates])
    yield from _twice(("spec", "evaluation", "benchmarks"), [b.name for b in spec.evaluation.benchmarks])
    runs = {run.name for run in spec.runs}
    for index, candidate in enumerate(spec.candidates):
        if candidate.name in runs:
            yield SpecProblem(("spec", "candidates", index, "name"), f"{candidate.name} is a run's name too")
    for kind, names in (("runs", [r.name for r in spec.runs]), ("candidates", [c.name for c in spec.candidates])):
        for index, name in enumerate(names):
            if name == "base":
                yield SpecProblem(("spec", kind, index, "name"), "base is the base model's name; choose another")
    if not spec.runs and not spec.candidates:
        yield SpecProblem(("spec", "runs"), "is empty, and so is candidates: there is nothing to evaluate")


def _twice(place: Path, names: Sequence[str]) -> Iterable[SpecProblem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield SpecProblem((*place, index, "name"), f"{name} is used twice; names must be unique")


def _runs(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    for index, run in enumerate(spec.runs):
        place: Path = ("spec", "runs", index)
        if run.checkpoints is None:
            yield from _trained(spec, run, place)
        else:
            yield from _external(run, place)


def _method(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    """`lora` under training applies to runs that train an adapter; without such a run it is a mistake."""
    trained = [run for run in spec.runs if run.checkpoints is None]
    if trained and spec.training.lora != LoraSpec() and all(method_of(spec, run) == "full" for run in trained):
        yield SpecProblem(("spec", "training", "lora"), NO_LORA)


def _targets(targets: Sequence[str], place: Path) -> Iterable[SpecProblem]:
    """A name that is similar to a kind of layers is a misspelt kind, and not the name of a module."""
    for target in targets:
        near = difflib.get_close_matches(target, (*KINDS, ALL_LINEAR), n=1, cutoff=0.8)
        if near and near != [target]:
            yield SpecProblem(place, f"{target} is not a kind of layers; did you mean {near[0]}?")


NO_LORA = "goes with method: lora; method: full trains all weights and has no rank, alpha, target or dropout"
TRAINED_ONLY = ("data", *(name for name in RunSpec.model_fields if name in TrainingSpec.model_fields))


def _trained(spec: ExperimentSpec, run: RunSpec, place: Path) -> Iterable[SpecProblem]:
    if run.data is None:
        yield SpecProblem((*place, "data"), "is required (or checkpoints, for those of another trainer)")
    elif run.data not in spec.data:
        yield SpecProblem((*place, "data"), f"{run.data} is not under data{nearest(run.data, spec.data)}")
    for where, stated in ((place, run), (("spec", "training"), spec.training)):
        if stated.samples is not None and stated.epochs is not None:
            yield SpecProblem((*where, "epochs"), "goes without samples: state one of them")
    if stated_length(spec, run) == (None, None):
        yield SpecProblem((*place, "samples"), "is required (or epochs), here or under training")
    for field, alias in (("sequence_tokens", "sequenceTokens"), ("overlong", "overlong")):
        if getattr(run, field) is None and getattr(spec.training, field) is None:
            yield SpecProblem((*place, alias), "is required, here or under training")
    if method_of(spec, run) == "full" and (run.start_from or spec.training.start_from) is not None:
        where = place if run.start_from is not None else ("spec", "training")
        yield SpecProblem(
            (*where, "startFrom"), "needs method: lora; to start from full weights, state them as the base"
        )
    if run.lora is not None and method_of(spec, run) == "full":
        yield SpecProblem((*place, "lora"), NO_LORA)
    elif run.lora is not None:
        yield from _targets(run.lora.target, (*place, "lora", "target"))
    samples, _ = stated_length(spec, run)
    every = run.checkpoint_every_samples or spec.training.checkpoint_every_samples
    batch = run.batch_size or spec.training.batch_size

    def stated_at(*fields: str) -> Path:
        """Returns the run, or `training` if the run states none of the fields, so that the problem is reported once."""
        return place if any(getattr(run, field) is not None for field in fields) else ("spec", "training")

    if every and every % batch:
        yield SpecProblem(
            (*stated_at("checkpoint_every_samples", "batch_size"), "checkpointEverySamples"),
            f"{every} is not a whole number of batches of {batch}",
        )
    if samples and every and every > samples:
        yield SpecProblem(
            (*stated_at("checkpoint_every_samples", "samples"), "checkpointEverySamples"),
            f"{every} is more than the run's {count_of(samples, 'sample')}",
        )
    if run.budget_tokens is not None and run.budget_tokens not in spec.evaluation.budgets:
        yield SpecProblem((*place, "budgetTokens"), f"{run.budget_tokens} is not one of evaluation.budgets")


def _external(run: RunSpec, place: Path) -> Iterable[SpecProblem]:
    assert run.checkpoints is not None
    for field in TRAINED_ONLY:
        if getattr(run, field) is not None:
            alias = RunSpec.model_fields[field].alias or field
            yield SpecProblem((*place, alias), "is for trainings here, and checkpoints states another trainer")
    external = run.checkpoints
    if (external.watch is None) == (not external.publish):
        yield SpecProblem((*place, "checkpoints"), "needs either watch: a location, or publish: true")
    if not external.expect:
        yield SpecProblem((*place, "checkpoints", "expect"), "is required: the sample counts to wait for")
    if list(external.expect) != sorted(set(external.expect)) or any(count < 0 for count in external.expect):
        yield SpecProblem((*place, "checkpoints", "expect"), "must ascend from 0 or more, each count once")
    if external.watch is not None and external.ready is None:
        yield SpecProblem(
            (*place, "checkpoints", "ready"), "is required with watch: the file that marks a checkpoint as complete"
        )


def _candidates(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    for index, candidate in enumerate(spec.candidates):
        place: Path = ("spec", "candidates", index)
        if (candidate.adapter is None) == (candidate.model is None):
            yield SpecProblem(place, "needs either adapter or model")
        if candidate.budget_tokens is not None and candidate.budget_tokens not in spec.evaluation.budgets:
            yield SpecProblem((*place, "budgetTokens"), f"{candidate.budget_tokens} is not one of evaluation.budgets")


def _evaluation(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    place: Path = ("spec", "evaluation")
    budgets = spec.evaluation.budgets
    if budgets != sorted(set(budgets)) or budgets[0] < 1:
        right = sorted({budget for budget in budgets if budget >= 1})
        hint = f"; sorted: {shortened(right)}" if right else ""
        yield SpecProblem((*place, "budgets"), f"must ascend, each at least 1 and there once{hint}")
    sampling = spec.evaluation.sampling
    if sampling.temperature == 0 and sampling.n > 1:
        yield SpecProblem(
            (*place, "sampling", "n"),
            f"must be 1 at temperature 0 (it is {sampling.n}): greedy outputs are all the same",
        )
    if (engine := spec.evaluation.engine.name) is not None:
        yield from _registered(engine, ENGINES, (*place, "engine", "name"))
    for index, benchmark in enumerate(spec.evaluation.benchmarks):
        yield from _benchmark(spec, benchmark, (*place, "benchmarks", index))


def _registered(name: str, registry: Registry[Any], place: Path) -> Iterable[SpecProblem]:
    """Imports the named object, so that an entry point that cannot be loaded is found here."""
    try:
        registry.require(name)
    except RegistryError as error:
        yield SpecProblem(place, str(error))


def _benchmark(spec: ExperimentSpec, benchmark: BenchmarkSpec, place: Path) -> Iterable[SpecProblem]:
    if benchmark.uri is None:
        if benchmark.name not in BENCHMARKS:
            hint = nearest(benchmark.name, BENCHMARKS)
            known = ", ".join(BENCHMARKS)
            message = f"{benchmark.name} is not built in{hint} (built in: {known}); your own needs uri and grader"
            yield SpecProblem((*place, "name"), message)
        else:
            yield from _registered(benchmark.name, BENCHMARKS, (*place, "name"))
        if benchmark.grader is not None:
            yield SpecProblem((*place, "grader"), "is for your own benchmarks; this one's is built in")
    else:
        if benchmark.name in BENCHMARKS and BENCHMARKS[benchmark.name].is_packaged:
            yield SpecProblem((*place, "name"), f"{benchmark.name} is a built-in benchmark's name; choose another")
        if benchmark.grader is None:
            yield SpecProblem((*place, "grader"), f"is required with uri: {', '.join(GRADERS)}")
        else:
            yield from _registered(benchmark.grader, GRADERS, (*place, "grader"))
        if "://" in benchmark.uri and benchmark.sha256 is None:
            yield SpecProblem((*place, "sha256"), f"is required: {benchmark.uri} is not a local file")
    if benchmark.completion == "pattern" and benchmark.completion_pattern is None:
        yield SpecProblem((*place, "completionPattern"), "is required with completion: pattern")
    if benchmark.completion != "pattern" and benchmark.completion_pattern is not None:
        yield SpecProblem((*place, "completionPattern"), "goes with completion: pattern")
    if benchmark.completion_pattern is not None:
        try:
            compile_pattern(benchmark.completion_pattern)
        except PatternError as error:
            yield SpecProblem((*place, "completionPattern"), str(error))
    if benchmark.limit is not None and benchmark.problems:
        yield SpecProblem((*place, "limit"), "goes without problems: one of them chooses the problems")
    for number, problem_id in enumerate(benchmark.problems):
        if problem_id in benchmark.problems[:number]:
            yield SpecProblem((*place, "problems", number), f"{problem_id} is listed twice; list each problem once")
    for prompt, name in ((benchmark.prompt, "prompt"), (benchmark.base_prompt, "basePrompt")):
        if prompt.instruction is not None and "{problem}" not in prompt.instruction:
            yield SpecProblem((*place, name, "instruction"), "does not hold {problem}: every prompt would be the same")
    for index, reference in enumerate(benchmark.confirm):
        yield from _reference(spec, reference, (*place, "confirm", index), others=())


def _gate(spec: ExperimentSpec) -> Iterable[SpecProblem]:
    if spec.gate is None:
        return
    place: Path = ("spec", "gate")
    yield from _reference(spec, spec.gate.candidate, (*place, "candidate"), others=())
    if "://" not in spec.gate.baseline and not spec.gate.baseline.endswith(".json"):
        yield from _reference(spec, spec.gate.baseline, (*place, "baseline"), others=("base",))
    if spec.gate.candidate == spec.gate.baseline:
        yield SpecProblem((*place, "baseline"), "is the candidate itself")
    names = [benchmark.name for benchmark in spec.evaluation.benchmarks]
    stated: dict[tuple[str, str], int] = {}
    for index, requirement in enumerate(spec.gate.require):
        what = (requirement.benchmark, requirement.metric)
        if what in stated:
            message = f"{' '.join(what)} is required twice (require[{stated[what]}] too); keep the smaller maxDrop"
            yield SpecProblem((*place, "require", index), message)
        stated.setdefault(what, index)
        if requirement.benchmark not in names:
            hint = nearest(requirement.benchmark, names)
            yield SpecProblem(
                (*place, "require", index, "benchmark"), f"{requirement.benchmark} is not under evaluation{hint}"
            )
    if spec.gate.budget_tokens is not None and spec.gate.budget_tokens not in spec.evaluation.budgets:
        yield SpecProblem((*place, "budgetTokens"), f"{spec.gate.budget_tokens} is not one of evaluation.budgets")


def _reference(spec: ExperimentSpec, reference: str, place: Path, others: tuple[str, ...]) -> Iterable[SpecProblem]:
    """Checks a reference: run@samples, run@last or a candidate's name."""
    candidates = [candidate.name for candidate in spec.candidates]
    if reference in others or reference in candidates:
        return
    name, at, which = reference.partition("@")
    run = next((run for run in spec.runs if run.name == name), None)
    known = [*others, *candidates, *(f"{run.name}@last" for run in spec.runs)]
    if run is None or not at:
        yield SpecProblem(place, f"{reference} is not known{nearest(reference, known)}; known: {listed(known)}")
    elif which != "last" and (run.checkpoints is not None or stated_length(spec, run)[1] is None):
        counts = checkpoints_of(spec, run)
        if which not in [str(count) for count in counts]:
            yield SpecProblem(place, f"{name} has no checkpoint at {which}; it has {listed(counts)}")


def method_of(spec: ExperimentSpec, run: RunSpec) -> Literal["lora", "full"]:
    """Returns how a run is trained: its own method, else the one of training."""
    return run.method or spec.training.method


def stated_length(spec: ExperimentSpec, run: RunSpec) -> tuple[int | None, float | None]:
    """Returns (samples, epochs) of a run, one of which is stated: the run's own, else training's."""
    if run.samples is not None or run.epochs is not None:
        return run.samples, run.epochs
    return spec.training.samples, spec.training.epochs


def checkpoints_of(spec: ExperimentSpec, run: RunSpec, counted: int | None = None) -> tuple[int, ...]:
    """Returns the sample counts at which a run publishes: every multiple of checkpointEverySamples, and the end.

    `counted`: the samples of a run that states epochs; without it () is returned for such a run.
    """
    if run.checkpoints is not None:
        return tuple(run.checkpoints.expect)
    samples = counted or stated_length(spec, run)[0] or 0
    every = run.checkpoint_every_samples or spec.training.checkpoint_every_samples or samples
    if not samples:
        return ()
    return tuple(sorted({*range(every, samples + 1, every), samples}))


def nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
