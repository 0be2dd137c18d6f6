"""`potstill init`: writes a first experiment file for the user's data, from three answers or from options."""

import os
import re
import sys
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import profile_from, resolve_loaded
from controller.experiment.errors import SpecError, SpecProblem
from controller.experiment.load import parse_experiment_file
from controller.experiment.profile import Profile
from controller.first_experiment import FirstExperiment, InitAnswers, first_experiments
from controller.first_experiment_file import as_yaml
from workloads.api.tasks import FileSource
from workloads.benchmarks.registry import BENCHMARKS
from workloads.data.files import BadData
from workloads.data.recognise import NotRecognised, recognise
from workloads.data.sources import fetch_data, location_sha256
from workloads.graders.registry import GRADERS
from workloads.models.files import why_hub_unreachable
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, hub_errors
from workloads.text.templates import BadTemplate
from workloads.words import count_of

OPTIONS = {
    ("metadata",): "--name",
    ("spec", "base"): "--base",
    ("spec", "data"): "--data",
    ("spec", "evaluation", "benchmarks"): "--benchmark",
}
"""Names the option that a field of the file comes from."""
BUDGETS = ("spec", "evaluation", "budgets")
LEAST_BUDGET = 16
"""In tokens. A base is refused if its context leaves less than this beside a prompt."""


def init(
    out: Annotated[Path, typer.Option("--out", help="Write the experiment file here.", metavar="FILE")] = Path(
        "experiment.yaml"
    ),
    data: Annotated[
        str | None,
        typer.Option(
            help="Your data: prompts and responses, or conversations, as JSONL, JSON, CSV or Parquet; a file, a "
            "directory of files, or hf://datasets/NAME@REVISION/PATH.",
            metavar="FILE|DIR|URI",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base: a directory, or owner/name[@commit] of the hub.", metavar="DIR|NAME"),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="A built-in name such as math-500, or your own JSONL (with --grader).", metavar="NAME|FILE"),
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="Of your own benchmark: math, code, exact or choice.", metavar="GRADER")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of the data, where their names do not say: the prompt and the response with a comma, or the "
            "one column of conversations, or instruction, input and output.",
            metavar="PROMPT,RESPONSE|MESSAGES",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="The experiment's name.", metavar="NAME")] = "first",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented experiment for your data. Asks for data, base and benchmark if no option gives them.

    The format of the data is recognised as the trainer reads them. The numbers fit your data: its rows, their lengths
    with the base's tokenizer, and whole batches. The file is written only if potstill validate accepts it. Example:
    potstill init --data data.jsonl --base Qwen/Qwen3-0.6B-Base --benchmark math-500
    """
    if out.exists() and not force:
        raise typer.BadParameter(f"{out} exists already: choose another, or --force", param_hint="--out")
    directory = out.resolve().parent
    if not directory.is_dir():
        raise typer.BadParameter(f"the folder {directory} does not exist: make it", param_hint="--out")
    data = data or _ask("--data", "Your data (prompts and responses or conversations; JSONL, JSON, CSV or Parquet)")
    uri, path = _data(data, directory)
    stated = _stated_columns(columns)
    base = base or _ask("--base", "The base (a directory, or owner/name of the hub)")
    model, revision = _base(base, directory)
    location = f"hub://{model}@{revision}" if revision is not None else str((directory / model).resolve())
    benchmark = benchmark or _ask("--benchmark", f"The benchmark ({', '.join(BENCHMARKS)}, or your own JSONL)")
    benchmark, kind = _benchmark(benchmark, grader, directory)
    answers = InitAnswers(name, model, revision, location, uri, benchmark, kind)
    try:
        first, text = _first_valid(first_experiments(answers, recognise(path, stated)), out)
    except NotRecognised as error:
        raise typer.BadParameter(f"{error}. Columns are stated with --columns", param_hint="--data") from error
    except (BadData, BadTemplate) as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    _write(out, text)
    taken = f"{count_of(first.samples, 'sample')} of {count_of(first.rows, 'row')}"
    print(f"{out} written: {taken}; next: potstill validate {out}")


def _ask(option: str, question: str) -> str:
    """Raises typer.BadParameter if there is no terminal for questions."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("is required without a terminal", param_hint=option)
    answer: str = typer.prompt(question)
    return answer.strip()


def _from_folder(stated: str, directory: Path) -> str | None:
    """Returns the path `stated` as the experiment file should have it; None if no such file exists.

    `stated` may be relative to the current folder or to the experiment file's folder.
    """
    for start in (Path.cwd(), directory):
        if (start / stated).exists():
            return stated if Path(stated).is_absolute() else os.path.relpath(start / stated, directory)
    return None


def _data(stated: str, directory: Path) -> tuple[str, Path]:
    """Returns the uri for the file, and the location of the data on this machine.

    Downloads data of the hub into its cache.
    """
    if stated.startswith("hf://"):
        try:
            return stated, fetch_data(FileSource(location=stated, sha256=location_sha256(stated)))
        except (ContentError, StoreError, BadData) as error:
            raise typer.BadParameter(
                f"{error}; if this machine cannot ask the hub, give the path of a copy", param_hint="--data"
            ) from error
    if "://" in stated:
        raise typer.BadParameter(
            f"{stated}: init reads data that are on this machine: give the path of a copy, and put this uri with its "
            "sha256 into the file that init writes",
            param_hint="--data",
        )
    found = _from_folder(stated, directory)
    if found is None:
        raise typer.BadParameter(f"{Path(stated).absolute()} does not exist", param_hint="--data")
    return found, directory / found


def _stated_columns(stated: str | None) -> list[str]:
    if stated is None:
        return []
    names = [name.strip() for name in stated.split(",")]
    if len(names) > 3 or not all(names):
        raise typer.BadParameter(
            "give one name (conversations), two (prompt, response) or three (instruction, input, output) with commas",
            param_hint="--columns",
        )
    return names


def _base(stated: str, directory: Path) -> tuple[str, str | None]:
    """Returns (model, revision). A hub name without a commit gets the newest commit of its branch main."""
    found = _from_folder(stated, directory)
    if found is not None and (directory / found).is_dir():
        return found, None
    model, _, revision = stated.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) is None:
        raise typer.BadParameter(f"{stated} is neither a directory here nor a name of a hub model", param_hint="--base")
    if not revision:
        from huggingface_hub import HfApi

        try:
            if (reason := why_hub_unreachable()) is not None:
                raise StoreError(f"{model}: {reason}")
            with hub_errors(model):
                revision = str(HfApi().model_info(model).sha)
        except (ContentError, StoreError) as error:
            advice = f"write {model}@COMMIT with the commit's 40 hex digits, or give the directory of a copy"
            raise typer.BadParameter(f"{error}. Without the hub, {advice}", param_hint="--base") from error
    return model, revision


def _benchmark(stated: str, grader: str | None, directory: Path) -> tuple[str, str | None]:
    """Returns (name or path for the file, grader of the user's own benchmark)."""
    if stated in BENCHMARKS:
        return stated, None
    found = _from_folder(stated, directory)
    if found is None or not (directory / found).is_file():
        known = ", ".join(BENCHMARKS)
        message = f"{stated} is not built in ({known}) and {Path(stated).absolute()} is not a file"
        raise typer.BadParameter(message, param_hint="--benchmark")
    grader = grader or _ask("--grader", f"How answers are graded ({', '.join(GRADERS)})")
    if grader not in GRADERS:
        raise typer.BadParameter(f"{grader} is not one of {', '.join(GRADERS)}", param_hint="--grader")
    return found, grader


def _first_valid(experiments: Iterable[FirstExperiment], out: Path) -> tuple[FirstExperiment, str]:
    """Returns the first experiment that `potstill validate` accepts, and its text.

    Halves a budget that does not fit beside the prompts. Raises typer.BadParameter with the problems of the first
    experiment, and BadData and BadTemplate.
    """
    profile = profile_from(None)
    refused: list[SpecProblem] = []
    for first in experiments:
        while True:
            text = as_yaml(first)
            problems = _problems(text, out, profile)
            if not problems:
                return first, text
            if not all(problem.path[:3] == BUDGETS for problem in problems) or first.budget_tokens <= LEAST_BUDGET:
                break
            first = replace(first, budget_tokens=first.budget_tokens // 2)
        refused = refused or problems
        if any(problem.path[:2] != ("spec", "data") for problem in problems):
            break  # another template would have the same problem
    messages = list(dict.fromkeys(problem.message for problem in refused))
    raise typer.BadParameter("; ".join(messages), param_hint=_option(refused[0]))


def _problems(text: str, out: Path, profile: Profile) -> list[SpecProblem]:
    """Returns the problems that `potstill validate` finds in the file `out` with this text."""
    try:
        loaded = parse_experiment_file(text, str(out))
        frozen = resolve_loaded(loaded, out.resolve().parent, profile)
    except SpecError as error:
        return list(error.problems)
    from controller.validation import validate_contents  # imported here, because scipy loads slowly

    return validate_contents(loaded.experiment, frozen).problems


def _option(problem: SpecProblem) -> str | None:
    fields = tuple(problem.path)
    return next((option for path, option in OPTIONS.items() if fields[: len(path)] == path), None)


def _write(out: Path, text: str) -> None:
    """Writes the whole file or nothing. Raises typer.BadParameter."""
    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(out)
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from error
    finally:
        unfinished.unlink(missing_ok=True)
