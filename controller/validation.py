"""Checks an experiment's data, templates, benchmarks and base on this machine before anything runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controller.base_checks import BASE, check_base_files
from controller.evaluation_prompts import make_prompts, problem_texts, tokenizer_of_base
from controller.experiment.errors import Path as Place
from controller.experiment.errors import SpecError, SpecProblem, listed
from controller.experiment.files import local_path, resolve_data, resolve_file, resolve_model
from controller.experiment.models import Experiment
from controller.experiment.start import resolve_start
from controller.experiment.templates import template_of
from controller.planned_gate import gate_warnings
from controller.training_data import NotReadableHere, base_folder, read_training_data, thinking_warnings
from workloads.api.evaluation_matrix import evaluation_matrix, prompting_of
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment, FrozenRun
from workloads.api.units import TrainInputs
from workloads.benchmarks.load import load
from workloads.benchmarks.model import BenchmarkError
from workloads.data.files import BadData
from workloads.data.rows import read_rows
from workloads.data.sources import is_here, localise_data
from workloads.evaluate.problems import BadBenchmark
from workloads.evaluate.prompts import BadPrompt, check_context
from workloads.graders.registry import GRADERS
from workloads.models.adapter_config import BadAdapter
from workloads.models.adapters import WEIGHTS, read_layout
from workloads.models.finite_tensors import not_finite
from workloads.models.safetensors_file import BadSafetensors
from workloads.models.shapes import ModelShapes
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, cache_folder, directory_content
from workloads.storage.registry import is_in_store
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import BadTokenizer, TextTokenizer
from workloads.untrusted import one_line
from workloads.words import count_of

HIGH_LEARNING_RATE = 0.1
HIGH_FULL_LEARNING_RATE = 1e-4
SHOWN_PROBLEMS = 3
"""At most this many problems of a benchmark are named in one message."""


@dataclass
class Validation:
    """`problems`: errors that a program would refuse. `warnings`: values that are allowed but are probably mistakes.

    `unchecked`: files that could not be read on this machine.
    """

    problems: list[SpecProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def reference_problems(experiment: Experiment, directory: Path) -> list[SpecProblem]:
    """Returns a problem for every file, template, base and candidate that does not exist or has another digest."""
    return list(_reference_problems(experiment, directory))


def _reference_problems(experiment: Experiment, directory: Path) -> Iterator[SpecProblem]:
    spec = experiment.spec
    base = spec.base
    try:
        resolve_model(base.model, ("spec", "base", "model"), directory, revision=base.revision, content=base.content)
    except SpecError as error:
        yield from error.problems
    except ContentError as error:
        yield SpecProblem(("spec", "base", "model"), str(error))
    for name, data in spec.data.items():
        if data.uri is not None:
            try:
                resolve_data(data.uri, data.sha256, ("spec", "data", name), directory)
            except SpecError as error:
                yield from error.problems
        yield from _missing_template(data.template, data.template_text, ("spec", "data", name), directory)
    for index in range(len(spec.runs)):
        try:
            resolve_start(spec, index, directory)
        except SpecError as error:
            yield from error.problems
        except ContentError as error:
            yield SpecProblem(("spec", "runs", index, "startFrom", "adapter"), str(error))
    for index, candidate in enumerate(spec.candidates):
        place: Place = ("spec", "candidates", index)
        yield from _missing_template(candidate.template, candidate.template_text, place, directory)
        which = "adapter" if candidate.adapter is not None else "model"
        where = candidate.adapter or candidate.model or ""
        if "://" not in where:
            try:
                directory_content(local_path(where, (*place, which), directory))
            except SpecError as error:
                yield from error.problems
            except ContentError as error:
                yield SpecProblem((*place, which), str(error))
    for index, benchmark in enumerate(spec.evaluation.benchmarks):
        place = ("spec", "evaluation", "benchmarks", index)
        for prompt, name in ((benchmark.prompt, "prompt"), (benchmark.base_prompt, "basePrompt")):
            yield from _missing_template(prompt.template or "plain", prompt.template_text, (*place, name), directory)
        if benchmark.uri is None or "://" in benchmark.uri:
            continue
        missing = list(_missing_file(benchmark.uri, benchmark.sha256, place, directory))
        yield from missing
        if not missing:
            try:
                load(directory / benchmark.uri, benchmark.grader, benchmark.completion, benchmark.completion_pattern)
            except BenchmarkError as error:
                yield SpecProblem((*place, "uri"), str(error))


def _missing_file(uri: str, sha256: str | None, place: Place, directory: Path) -> Iterable[SpecProblem]:
    try:
        resolve_file(uri, sha256, place, directory)
    except SpecError as error:
        return error.problems
    return ()


def _missing_template(name: str, text: str | None, place: Place, directory: Path) -> Iterable[SpecProblem]:
    try:
        template_of(name, text, None, directory, place)
    except SpecError as error:
        return error.problems
    return ()


def validate_contents(experiment: Experiment, frozen: FrozenExperiment, *, read_data: bool = True) -> Validation:
    """Reads base, data, templates and benchmarks, if they are on this machine. Runs and downloads nothing.

    `read_data`: False leaves the training data out. Problems are returned, and not raised.
    """
    found = Validation()
    shapes, tokenizer = _base(experiment, frozen, found)
    _check_training(experiment, frozen, shapes, found)
    _check_starts(experiment, frozen, shapes, found)
    if read_data:
        _check_data(experiment, frozen, found)
    for index, benchmark in enumerate(frozen.benchmarks):
        _check_benchmark(frozen, benchmark, index, tokenizer, shapes, found)
    for run in frozen.runs:
        if run.location is not None and "://" in run.location:
            found.unchecked.append(f"{run.name}: the weights at {run.location} are read by pods only")
    found.warnings += gate_warnings(frozen)
    names = [run.name for run in frozen.runs]
    found.warnings, found.unchecked = said_once(names, found.warnings), said_once(names, found.unchecked)
    return found


def said_once(names: Sequence[str], lines: Iterable[str]) -> list[str]:
    """Lines that begin with a run's name: those that say the same of several runs become one with all the names."""
    together: dict[str, list[str]] = {}
    for line in lines:
        name, _, rest = line.partition(": ")
        known, text = ([name], rest) if name in names else ([], line)
        together.setdefault(text, []).extend(known)
    return [f"{listed(dict.fromkeys(runs))}: {text}" if runs else text for text, runs in together.items()]


def _base(
    experiment: Experiment, frozen: FrozenExperiment, found: Validation
) -> tuple[ModelShapes | None, TextTokenizer | None]:
    try:
        folder = base_folder(frozen.base)
    except NotReadableHere as error:
        found.unchecked.append(f"{error}: prompts, lengths of the data, the base's context, targets and memory")
        return None, None
    base = check_base_files(frozen, experiment.spec, folder)
    found.problems += base.problems
    found.warnings += base.warnings
    found.unchecked += base.unchecked
    try:
        return base.shapes, tokenizer_of_base(frozen)
    except BadTokenizer as error:
        found.problems.append(SpecProblem(BASE, str(error)))
        return base.shapes, None


def _check_training(
    experiment: Experiment, frozen: FrozenExperiment, shapes: ModelShapes | None, found: Validation
) -> None:
    """Finds values that are allowed but are probably mistakes."""
    narrowest = min((min(shape) for shape in shapes.linear().values()), default=None) if shapes is not None else None
    for run in frozen.runs:
        inputs = run.inputs
        if not isinstance(inputs, TrainInputs):
            continue
        if inputs.type == "full" and inputs.learning_rate > HIGH_FULL_LEARNING_RATE:
            found.warnings.append(
                f"{run.name}: learningRate is {inputs.learning_rate:g}: full fine-tuning rarely learns above 0.0001, "
                "and 0.00001 is usual"
            )
        if inputs.lora is None:
            continue
        if inputs.learning_rate > HIGH_LEARNING_RATE:
            found.warnings.append(
                f"{run.name}: learningRate is {inputs.learning_rate:g}: adapters rarely learn above 0.01"
            )
        if narrowest is not None and inputs.lora.rank > narrowest:
            found.warnings.append(
                f"{run.name}: rank {inputs.lora.rank} is more than the narrowest layer's width {narrowest}: "
                "a larger rank than that adds no freedom"
            )
    for benchmark, stated in zip(frozen.benchmarks, experiment.spec.evaluation.benchmarks, strict=True):
        asked = sum(len(part.problems) for part in benchmark.parts)
        if stated.limit is not None and 0 < asked < stated.limit:
            found.warnings.append(
                f"{benchmark.name}: limit is {stated.limit}, and the benchmark has {count_of(asked, 'problem')}"
            )


def _check_starts(
    experiment: Experiment, frozen: FrozenExperiment, shapes: ModelShapes | None, found: Validation
) -> None:
    """Checks adapters to start from: their layers and shapes are the base's, and their numbers are finite."""
    for index, run in enumerate(frozen.runs):
        if run.start is None or shapes is None:
            continue
        if is_in_store(run.start.location):
            found.unchecked.append(f"{run.name}: the adapter at {run.start.location} is read by its training only")
            continue
        own = experiment.spec.runs[index].start_from is not None
        place: Place = ("spec", "runs", index) if own else ("spec", "training")
        wrong = _why_no_start(Path(run.start.location), shapes)
        if wrong is not None:
            found.problems.append(SpecProblem((*place, "startFrom", "adapter"), f"{run.start.location}: {wrong}"))


def _why_no_start(directory: Path, shapes: ModelShapes) -> str | None:
    """Returns why the adapter in `directory` cannot be trained further on a base of these shapes; None if it can."""
    try:
        layers = read_layout(directory, shapes.linear()).layers
        infinite = not_finite(directory / WEIGHTS)
    except (BadAdapter, BadSafetensors, OSError) as error:
        return str(error)
    if any(".experts." in layer for layer in layers):
        return "it has adapters of experts, which cannot be trained further"
    return f"{WEIGHTS}: `{infinite[0]}` holds NaN or infinity" if infinite else None


def _check_data(experiment: Experiment, frozen: FrozenExperiment, found: Validation) -> None:
    for run in frozen.runs:
        if not isinstance(run.inputs, TrainInputs):
            continue
        place: Place = ("spec", "data", run.data or "")
        try:
            data, _ = read_training_data(frozen, run)
        except NotReadableHere:
            _check_rows(run, run.inputs, place, found)
        except BadData as error:
            found.problems.append(SpecProblem((*place, "uri"), str(error)))
        except BadTemplate as error:
            stated = experiment.spec.data[run.data or ""]
            which = "templateText" if stated.template_text is not None else "template"
            found.problems.append(
                SpecProblem((*place, which), f"{error}; a template has the variables prompt and system")
            )
        except BadTokenizer:
            pass  # a problem of the base, which was reported already
        else:
            found.warnings += [f"{run.name}: {text}" for text in (*data.warnings, *thinking_warnings(run, data))]


def _check_rows(run: FrozenRun, inputs: TrainInputs, place: Place, found: Validation) -> None:
    """Checks the data for a base that is not here: its rows, without their lengths."""
    for source, part in zip(run.sources, inputs.parts, strict=True):
        if not is_here(source):
            found.unchecked.append(f"{run.name}: the training data {source.location} is read by pods only")
            continue
        try:
            read_rows(localise_data(source, cache_folder()), part.columns, part.format, part.loss)
        except BadData as error:
            found.problems.append(SpecProblem((*place, "uri"), str(error)))
        except (ContentError, StoreError) as error:
            found.unchecked.append(f"{run.name}: the training data {source.location}: {error}")


def _check_benchmark(
    frozen: FrozenExperiment,
    benchmark: FrozenBenchmark,
    index: int,
    tokenizer: TextTokenizer | None,
    shapes: ModelShapes | None,
    found: Validation,
) -> None:
    place: Place = ("spec", "evaluation", "benchmarks", index)
    try:
        texts = problem_texts(benchmark)
        read = load(benchmark.source.location, benchmark.grader, benchmark.completion, benchmark.completion_pattern)
    except NotReadableHere as error:
        found.unchecked.append(f"{benchmark.name}: {error}: its rows and prompts")
        return
    except (BadBenchmark, BenchmarkError) as error:
        found.problems.append(SpecProblem((*place, "uri"), str(error)))
        return
    if read.unused_fields:
        names = listed(one_line(name, 40) for name in read.unused_fields)
        found.warnings.append(f"{benchmark.name}: fields that are not used: {names}")
    reasons = [(problem, GRADERS[benchmark.grader].why_unanswerable(problem)) for problem in read.problems]
    unanswerable = [
        f"{one_line(problem.id, 40)} (answer {one_line(problem.answer or '', 40)!r}, "
        f"{count_of(len(problem.choices), 'choice')})"
        for problem, reason in reasons
        if reason is not None
    ]
    if unanswerable:
        reason = next(reason for _, reason in reasons if reason is not None)
        more = f" and {len(unanswerable) - SHOWN_PROBLEMS} more" if len(unanswerable) > SHOWN_PROBLEMS else ""
        named = ", ".join(unanswerable[:SHOWN_PROBLEMS]) + more
        message = f"{reason}: problem {named}"
        found.problems.append(SpecProblem((*place, "uri"), message))
    if tokenizer is None:
        return
    done: set[str] = set()
    for want in evaluation_matrix(frozen, {}):
        prompting = prompting_of(want)
        key = prompting.model_dump_json() + want.part.name
        if want.benchmark.name != benchmark.name or key in done:
            continue
        done.add(key)
        role = "basePrompt" if want.model.run is None else "prompt"
        try:
            asked = {problem: texts[problem] for problem in want.part.problems} or texts
            prompts = make_prompts(tokenizer, prompting, asked)
            if shapes is not None:
                check_context(prompts, frozen.budgets[-1], shapes.context_tokens)
        except BadPrompt as error:
            too_long = "the base's context holds" in str(error)
            where: Place = ("spec", "evaluation", "budgets") if too_long else (*place, role)
            found.problems.append(SpecProblem(where, f"{benchmark.name}: {error}" if too_long else str(error)))
            return
