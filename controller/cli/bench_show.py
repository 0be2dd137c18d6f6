"""`potstill bench show`: the prompt of a problem, exactly as it is sent."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import ProfileFile, frozen_from
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.evaluation_prompts import (
    UnknownModel,
    make_prompts,
    problem_texts,
    prompting_of_model,
    tokenizer_of_base,
)
from controller.experiment.errors import SpecError, SpecProblem
from controller.experiment.validate import nearest
from controller.training_data import NotReadableHere
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment
from workloads.evaluate.problems import BadBenchmark
from workloads.evaluate.prompts import BadPrompt
from workloads.untrusted import printable

DEFAULT_FILE = Path("experiment.yaml")


def show_prompt(
    benchmark: Annotated[str, typer.Argument(help="Name of a benchmark of the experiment.", metavar="BENCH")],
    experiment: Annotated[
        Path, typer.Option("--experiment", "-e", help="The experiment file.", metavar="EXPERIMENT.YAML")
    ] = DEFAULT_FILE,
    model: Annotated[str, typer.Option(help="base, or the name of a run or candidate.", metavar="base|RUN")] = "base",
    problem: Annotated[
        str | None, typer.Option(help="Id of the problem; default: the first one.", metavar="ID")
    ] = None,
    profile: ProfileFile = None,
    json_to: JsonTo = None,
) -> None:
    """Show the prompt of a problem exactly as it is sent: template, instruction, lettered choices, prefill.

    Only the prompt is on standard output; its size, hash and stop strings are on standard error.
    Example: potstill bench show sums --experiment examples/quickstart.yaml --model math_drop
    """
    frozen = frozen_from(experiment, profile)
    asked = _benchmark(frozen, benchmark, experiment)
    try:
        prompting = prompting_of_model(asked, model)
        ids = [name for part in asked.parts for name in part.problems]
        chosen = problem or (ids[0] if ids else None)
        texts = problem_texts(asked, [chosen] if chosen is not None else [])
        first = dict([next(iter(texts.items()))])
        tokenizer = tokenizer_of_base(frozen)
        (prompt,) = make_prompts(tokenizer, prompting, first)
    except UnknownModel as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    except (BadBenchmark, BadPrompt, NotReadableHere) as error:
        raise SpecError(str(experiment), [SpecProblem(("spec", "evaluation", "benchmarks"), str(error))]) from error
    text = tokenizer.decode(prompt.token_ids)
    body = {
        "benchmark": asked.name,
        "model": model,
        "problem": prompt.problem,
        "prompt": text,
        "token_ids": prompt.token_ids,
        "prompt_sha256": prompt.sha256,
        "stop": prompting.stop,
    }
    write_json(json_to, "bench show", body)
    if not shows_text(json_to):
        return
    stop = f", stops at {', '.join(map(repr, prompting.stop))}" if prompting.stop else ""
    about = f"{asked.name} {prompt.problem} for {model}: {len(prompt.token_ids)} tokens, {prompt.sha256[:12]}{stop}"
    print(printable(about), file=sys.stderr)
    sys.stdout.write(printable(text) + "\n")


def _benchmark(frozen: FrozenExperiment, name: str, experiment: Path) -> FrozenBenchmark:
    """Raises SpecError."""
    names = [item.name for item in frozen.benchmarks]
    if name not in names:
        message = f"there is no benchmark {name}{nearest(name, names)}; there are: {', '.join(names)}"
        raise SpecError(str(experiment), [SpecProblem(("spec", "evaluation", "benchmarks"), message)])
    return frozen.benchmarks[names.index(name)]
