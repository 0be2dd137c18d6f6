"""What a training pod or an engine would refuse, and what loses trainings: said before anything is run."""

from collections.abc import Iterator
from pathlib import Path

from controller.spec.errors import Problem, SpecError
from controller.training_data import NotReadableHere, base_tokenizer, read_training_data
from workloads.contents import ContentError, localise_file
from workloads.contract.experiment import FrozenBenchmark, FrozenExperiment
from workloads.contract.units import Prompting, TrainInputs
from workloads.evaluate.problems import BadBenchmark, read_problems
from workloads.evaluate.prompts import BadPrompt, check_context, make_prompt
from workloads.models.fits import context_tokens
from workloads.text.tokenizer import TextTokenizer


def training_warnings(frozen: FrozenExperiment) -> Iterator[str]:
    """A line for each warning of each run's data, and for each run whose data cannot be read here.

    Raises what the trainer would: BadData, BadTemplate, BadTokenizer; and SpecError as `check_prompts`.
    """
    check_prompts(frozen)
    for run in frozen.runs:
        if not isinstance(run.inputs, TrainInputs):
            continue
        try:
            data, _ = read_training_data(frozen, run)
        except NotReadableHere as reason:
            yield f"{run.name}: its data is not checked: {reason}"
        else:
            yield from (f"{run.name}: {warning}" for warning in data.warnings)


def check_prompts(frozen: FrozenExperiment) -> None:
    """Raises SpecError where a benchmark's longest prompt and the largest budget do not fit the base's context.

    Benchmarks and bases that are not here are left to the pods.
    """
    try:
        tokenizer, config = base_tokenizer(frozen.base)
    except NotReadableHere:
        return
    limit = context_tokens(config)
    if limit is None:
        return
    for index, benchmark in enumerate(frozen.benchmarks):
        promptings = {prompting.to_json(): prompting for prompting in _promptings(benchmark)}
        for prompting in promptings.values():
            try:
                _check(frozen, benchmark, prompting, tokenizer, limit)
            except BadPrompt as error:
                place = ("spec", "evaluation", "benchmarks", index)
                raise SpecError(frozen.name, [Problem(place, f"{benchmark.name}: {error}")]) from error


def _promptings(benchmark: FrozenBenchmark) -> list[Prompting]:
    asked = list(benchmark.trained_prompting.values()) if benchmark.checkpoint_parts else []
    return asked + ([benchmark.base_prompting] if benchmark.base_parts else [])


def _check(
    frozen: FrozenExperiment, benchmark: FrozenBenchmark, prompting: Prompting, tokenizer: TextTokenizer, limit: int
) -> None:
    """Raises BadPrompt."""
    if benchmark.source.location.startswith("s3://"):
        return
    ids = tuple(problem for part in benchmark.parts for problem in part.problems)
    try:
        problems = read_problems(localise_file(benchmark.source, Path()), ids)
    except (ContentError, BadBenchmark):
        return  # the benchmark's own reader says so
    prompts = [make_prompt(tokenizer, prompting, problem, text) for problem, text in problems.items()]
    check_context(prompts, frozen.budgets[-1], limit)
