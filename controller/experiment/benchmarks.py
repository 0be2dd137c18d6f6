"""Resolves a benchmark of the file: its content, its parts, and how its problems are presented to each model."""

from pathlib import Path as FilePath
from typing import Literal

from controller.experiment.errors import Path, SpecError, SpecProblem
from controller.experiment.files import resolve_file
from controller.experiment.models import BenchmarkSpec, PromptSpec
from controller.experiment.prompts import base_prompting, trained_prompting
from controller.experiment.templates import template_of
from workloads.api.experiment import FrozenBenchmark, FrozenPart, PartName
from workloads.api.tasks import FileSource
from workloads.api.units import Template
from workloads.benchmarks.load import load
from workloads.benchmarks.model import Benchmark, BenchmarkError
from workloads.benchmarks.registry import BENCHMARKS, frozen_domain
from workloads.graders.registry import GRADERS, added_version
from workloads.registry import RegistryError
from workloads.storage.content_digest import BUILTIN_PREFIX


def resolve_benchmark(
    benchmark: BenchmarkSpec, index: int, templates: dict[str, Template], directory: FilePath
) -> FrozenBenchmark:
    """`templates`: by run or candidate name, the template of its training. Raises SpecError."""
    place: Path = ("spec", "evaluation", "benchmarks", index)
    if benchmark.uri is None:
        read = _registered(benchmark, place)
        domain = benchmark.domain or frozen_domain(benchmark.name)
        source = FileSource(location=f"{BUILTIN_PREFIX}{benchmark.name}", sha256=read.sha256)
        grader, completion = read.grader, benchmark.completion or read.completion
        pattern = benchmark.completion_pattern if benchmark.completion else read.completion_pattern
        parts = _parts(benchmark, read, place)
    else:
        assert benchmark.grader is not None, "check() requires it"
        grader, domain, pattern = benchmark.grader, benchmark.domain, benchmark.completion_pattern
        completion = benchmark.completion or GRADERS[grader].completion
        source = resolve_file(benchmark.uri, benchmark.sha256, place, directory)
        if "://" in benchmark.uri:
            parts = _unread_parts(benchmark, place)
        else:
            parts = _parts(benchmark, _read(benchmark, source, place), place)
    names = [part.name for part in parts]
    return FrozenBenchmark(
        name=benchmark.name,
        source=source,
        grader=grader,
        grader_version=added_version(grader),
        completion=completion,
        completion_pattern=pattern,
        domain=domain,
        parts=parts,
        checkpoint_parts=_asked(benchmark.checkpoints, names),
        base_parts=_asked(benchmark.base, names),
        confirm=tuple(benchmark.confirm),
        trained_prompting={
            name: trained_prompting(benchmark.prompt, template, _override(benchmark.prompt, directory, place))
            for name, template in templates.items()
        },
        base_prompting=base_prompting(
            benchmark, _base_instruction(benchmark, grader), _override(benchmark.base_prompt, directory, place)
        ),
    )


def _base_instruction(benchmark: BenchmarkSpec, grader: str) -> str:
    """Returns the instruction for a base if the file has none: the benchmark's, else its grader's."""
    own = BENCHMARKS[benchmark.name].base_instruction if benchmark.uri is None else None
    return own or GRADERS[grader].base_instruction


def _registered(benchmark: BenchmarkSpec, place: Path) -> Benchmark:
    """Returns a benchmark of the registry, and downloads it if necessary. Raises SpecError."""
    try:
        return load(benchmark.name)
    except (BenchmarkError, RegistryError) as error:
        raise SpecError("experiment", [SpecProblem((*place, "name"), str(error))]) from error


def _read(benchmark: BenchmarkSpec, source: FileSource, place: Path) -> Benchmark:
    try:
        return load(source.location, benchmark.grader, benchmark.completion, benchmark.completion_pattern)
    except BenchmarkError as error:
        raise SpecError("experiment", [SpecProblem((*place, "uri"), str(error))]) from error


def _parts(benchmark: BenchmarkSpec, read: Benchmark, place: Path) -> tuple[FrozenPart, ...]:
    """Returns the parts fast and rest, or the one subset that limit or problems choose."""
    try:
        if benchmark.limit is not None or benchmark.problems:
            chosen = read.select(tuple(benchmark.problems), benchmark.limit)
            return (FrozenPart(name="subset", problems=chosen),)
        fast, rest = read.part("fast"), read.part("rest")
    except BenchmarkError as error:
        raise SpecError("experiment", [SpecProblem((*place, "problems"), str(error))]) from error
    parts = (FrozenPart(name="fast", problems=fast), FrozenPart(name="rest", problems=rest))
    return tuple(part for part in parts if part.problems)


def _unread_parts(benchmark: BenchmarkSpec, place: Path) -> tuple[FrozenPart, ...]:
    """Returns the parts of a remote file, which only pods read: the whole file, or the stated ids."""
    if benchmark.limit is not None:
        message = f"needs the ids, and {benchmark.uri} is read by pods only: list them as problems"
        raise SpecError("experiment", [SpecProblem((*place, "limit"), message)])
    if benchmark.problems:
        return (FrozenPart(name="subset", problems=tuple(benchmark.problems)),)
    return (FrozenPart(name="all", problems=()),)


def _asked(which: Literal["fast", "full", "none"], names: list[PartName]) -> tuple[PartName, ...]:
    if which == "none":
        return ()
    if which == "fast" and "fast" in names:
        return ("fast",)
    return tuple(names)


def _override(prompt: PromptSpec, directory: FilePath, place: Path) -> Template | None:
    if prompt.template is None and prompt.template_text is None:
        return None
    return template_of(prompt.template or "plain", prompt.template_text, None, directory, place)
