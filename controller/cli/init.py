"""`potstill init`: a first experiment for your data, from three answers or from options."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import frozen_from
from controller.first_experiment import NoColumns, as_yaml, columns_of, first_experiment
from workloads.benchmarks.registry import BENCHMARKS
from workloads.graders.registry import GRADERS
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, hub_errors


def init(
    out: Annotated[
        Path, typer.Option("--out", help="Write the experiment file here; paths in it start there.", metavar="FILE")
    ] = Path("experiment.yaml"),
    data: Annotated[
        str | None, typer.Option(help="Your data: JSONL or Parquet with a prompt and a response a row.", metavar="FILE")
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
        typer.Option(help="The prompt's and the response's column, with a comma.", metavar="PROMPT,RESPONSE"),
    ] = None,
    name: Annotated[str, typer.Option(help="The experiment's name.", metavar="NAME")] = "first",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented experiment for your data. What no option says is asked: data, base, benchmark.

    Numbers are chosen by your data: rows, their lengths with the base's tokenizer, whole batches.
    Example: potstill init --data data.jsonl --base Qwen/Qwen3-0.6B-Base --benchmark math-500
    """
    if out.exists() and not force:
        raise typer.BadParameter(f"{out} is there already: choose another, or --force", param_hint="--out")
    directory = out.resolve().parent
    data = data or _ask("--data", "Your data (JSONL or Parquet with a prompt and a response a row)")
    path = directory / data
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not a file", param_hint="--data")
    pair = _columns(path, columns)
    base = base or _ask("--base", "The base (a directory, or owner/name of the hub)")
    model, revision = _base(base, directory)
    benchmark = benchmark or _ask("--benchmark", f"The benchmark ({', '.join(BENCHMARKS)}, or your own JSONL)")
    kind = _grader(benchmark, grader, directory)
    try:
        first = first_experiment(name, model, revision, data, pair, benchmark, kind, directory)
    except NoColumns as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    out.write_text(as_yaml(first), encoding="utf-8")
    frozen_from(out, None)
    print(f"{out} written: {first.samples:,} samples of {first.rows:,} rows; next: potstill validate {out}")


def _ask(option: str, question: str) -> str:
    """Raises typer.BadParameter if there is no terminal to ask at."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("is required where there is no terminal to ask at", param_hint=option)
    answer: str = typer.prompt(question)
    return answer.strip()


def _columns(path: Path, stated: str | None) -> tuple[str, str]:
    if stated is None:
        try:
            return columns_of(path)
        except NoColumns as error:
            raise typer.BadParameter(str(error), param_hint="--data") from error
    names = [name.strip() for name in stated.split(",")]
    if len(names) != 2 or not all(names):
        raise typer.BadParameter("give two names with a comma", param_hint="--columns")
    return names[0], names[1]


def _base(stated: str, directory: Path) -> tuple[str, str | None]:
    """(model, revision). A hub name without a commit gets the one that its branch main has now."""
    if (directory / stated).is_dir():
        return stated, None
    model, _, revision = stated.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) is None:
        raise typer.BadParameter(f"{stated} is no directory here and no name of a hub model", param_hint="--base")
    if not revision:
        from huggingface_hub import HfApi

        try:
            with hub_errors(model):
                revision = str(HfApi().model_info(model).sha)
        except (ContentError, StoreError) as error:
            raise typer.BadParameter(f"{error}; write {model}@<commit>", param_hint="--base") from error
    return model, revision


def _grader(benchmark: str, grader: str | None, directory: Path) -> str | None:
    if benchmark in BENCHMARKS:
        return None
    if not (directory / benchmark).is_file():
        known = ", ".join(BENCHMARKS)
        message = f"{benchmark} is not built in ({known}) and {directory / benchmark} is not a file"
        raise typer.BadParameter(message, param_hint="--benchmark")
    grader = grader or _ask("--grader", f"How answers are graded ({', '.join(GRADERS)})")
    if grader not in GRADERS:
        raise typer.BadParameter(f"{grader} is not one of {', '.join(GRADERS)}", param_hint="--grader")
    return grader
