"""`potstill bench test`: golds must grade right before a GPU is booked."""

import os
import sys
from typing import Annotated

import typer

from workloads.api.grades import COMPARED
from workloads.benchmarks import BUILTIN, GraderKind, load
from workloads.untrusted import one_line

app = typer.Typer(help="Look at benchmarks.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Look at benchmarks."""


@app.command("test")
def check_golds(
    file: Annotated[str, typer.Argument(help="math-500, mbpp-plus, or your own JSONL.")],
    grader: Annotated[str | None, typer.Option(help="math, code, exact or choice; for your own JSONL.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; default: one a core.")] = os.cpu_count() or 1,
) -> None:
    """Grade every gold answer and reference solution as if a model had written it.

    Exit 1 if one is not right; 4 if there is none, or one could not be graded.
    """
    from workloads.grade.bench import Unsupported, grade_golds

    kinds: dict[str, GraderKind] = {"math": "math", "code": "code", "exact": "exact", "choice": "choice"}
    if grader is not None and grader not in kinds:
        raise typer.BadParameter(f"{grader} is not one of {', '.join(kinds)}", param_hint="--grader")
    if grader is not None and file in BUILTIN:
        raise typer.BadParameter(f"{file} is built in, and has its own", param_hint="--grader")
    benchmark = load(file, kinds[grader] if grader else None)
    try:
        report = grade_golds(benchmark, workers)
    except Unsupported as error:
        print(error, file=sys.stderr)
        raise typer.Exit(4) from None
    failed = [grade for grade in report.wrong if grade.verdict not in COMPARED]
    for grade in report.wrong:
        print(f"{one_line(grade.problem)}: {grade.verdict} ({grade.cause}): {one_line(grade.answer or '', 200)}")
    for warning in report.warnings:
        print(f"warning: {one_line(warning)}")
    untested = f"; no answer to test: {len(report.untested)}" if report.untested else ""
    ungraded = f"; could not be graded: {len(failed)}" if failed else ""
    right = report.tested - len(report.wrong)
    print(f"{benchmark.name}: {right} of {report.tested} golds grade right{ungraded}{untested}")
    if len(report.wrong) > len(failed):
        raise typer.Exit(1)
    raise typer.Exit(4 if failed or not report.tested else 0)
