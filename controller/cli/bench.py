"""`potstill bench test`: golds must grade right before a GPU is booked."""

import os
from pathlib import Path
from typing import Annotated

import typer

from workloads.benchmarks import GraderKind, load

app = typer.Typer(help="Look at benchmarks.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Look at benchmarks."""


@app.command("test")
def check_golds(
    file: Annotated[str, typer.Argument(help="math-500, mbpp-plus, or your own JSONL.")],
    grader: Annotated[str | None, typer.Option(help="math, code, exact or choice; for your own JSONL.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; default: one a core.")] = os.cpu_count() or 1,
) -> None:
    """Grade every gold answer and reference solution as if a model had written it. Exit 1 if one is not right."""
    from workloads.grade.bench import grade_golds

    kinds: dict[str, GraderKind] = {"math": "math", "code": "code", "exact": "exact", "choice": "choice"}
    if grader is not None and grader not in kinds:
        raise typer.BadParameter(f"{grader} is not one of {', '.join(kinds)}", param_hint="--grader")
    where = str(Path(file)) if Path(file).exists() else file
    benchmark = load(where, kinds[grader] if grader else None)
    report = grade_golds(benchmark, workers)
    for grade in report.wrong:
        print(f"{grade.problem}: {grade.verdict} ({grade.cause}): {(grade.answer or '')[:200]}")
    untested = f"; {len(report.untested)} problems have no answer to test" if report.untested else ""
    print(f"{benchmark.name}: {report.tested - len(report.wrong)} of {report.tested} golds grade right{untested}")
    raise typer.Exit(1 if report.wrong else 0)
