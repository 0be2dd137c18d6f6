"""`potstill bench`: check before a GPU is booked that golds are graded right, and read a prompt as it is sent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.bench_show import show_prompt
from controller.cli.json_output import JsonTo, ReadingCommand, shows_text, write_json
from workloads.api.grades import COMPARED
from workloads.benchmarks.load import load
from workloads.benchmarks.model import Benchmark
from workloads.benchmarks.registry import BENCHMARKS
from workloads.graders.registry import GRADERS
from workloads.untrusted import one_line

if TYPE_CHECKING:
    from workloads.grade.bench import GoldReport

app = typer.Typer(help="Look at benchmarks.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Look at benchmarks."""


@app.command("test", cls=ReadingCommand)
def check_golds(
    file: Annotated[str, typer.Argument(help="A built-in name such as math-500, or your own JSONL.")],
    grader: Annotated[str | None, typer.Option(help="math, code, exact or choice; for your own JSONL.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; default: one a core.")] = os.cpu_count() or 1,
    json_to: JsonTo = None,
) -> None:
    """Grade every gold answer and reference solution as if a model had written it.

    Exit 1 if a gold is graded wrong; 4 if there is no gold or one could not be graded. Example: potstill bench test
    bench.jsonl --grader math
    """
    from workloads.grade.bench import Unsupported, grade_golds

    if grader is not None and grader not in GRADERS:
        raise typer.BadParameter(f"{grader} is not one of {', '.join(GRADERS)}", param_hint="--grader")
    if grader is not None and file in BENCHMARKS:
        raise typer.BadParameter(f"{file} is built in, and has its own", param_hint="--grader")
    benchmark = load(file, grader)
    try:
        report = grade_golds(benchmark, workers)
    except Unsupported as error:
        print(error, file=sys.stderr)
        raise typer.Exit(4) from None
    failed = [grade for grade in report.wrong if grade.verdict not in COMPARED]
    right = report.tested - len(report.wrong)
    body = {
        "benchmark": benchmark.name,
        "tested": report.tested,
        "right": right,
        "wrong": report.wrong,
        "untested": report.untested,
        "warnings": report.warnings,
        "unused_fields": benchmark.unused_fields,
    }
    write_json(json_to, "bench test", body)
    if shows_text(json_to):
        _print_golds(benchmark, report, right, len(failed))
    if len(report.wrong) > len(failed):
        raise typer.Exit(1)
    raise typer.Exit(4 if failed or not report.tested else 0)


def _print_golds(benchmark: Benchmark, report: GoldReport, right: int, failed: int) -> None:
    for grade in report.wrong:
        print(f"{one_line(grade.problem)}: {grade.verdict} ({grade.cause}): {one_line(grade.answer or '', 200)}")
    for warning in report.warnings:
        print(f"warning: {one_line(warning)}")
    untested = f"; no answer to test: {len(report.untested)}" if report.untested else ""
    ungraded = f"; could not be graded: {failed}" if failed else ""
    print(f"{benchmark.name}: {right} of {report.tested} golds are graded right{ungraded}{untested}")


app.command("show", cls=ReadingCommand)(show_prompt)
