"""`potstill grade`: grades outputs of any model with the rules of an evaluation."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from controller.cli.json_output import JsonTo, shows_text, write_json
from workloads.api.grades import COMPARED
from workloads.benchmarks.load import load
from workloads.benchmarks.model import Benchmark, CompletionRule
from workloads.benchmarks.pattern import PatternError
from workloads.benchmarks.registry import BENCHMARKS
from workloads.graders.registry import GRADERS
from workloads.untrusted import one_line
from workloads.words import count_of

if TYPE_CHECKING:
    from workloads.grade.existing import GradedRow, Summary
    from workloads.grade.outputs_file import OutputRow

COMPLETIONS: tuple[CompletionRule, ...] = ("boxed", "fenced", "any", "pattern")
SHOWN_CHARACTERS = 100


def grade(
    outputs: Annotated[Path, typer.Argument(help="JSONL, a row an output; .gz is read too.", metavar="OUTPUTS.JSONL")],
    benchmark: Annotated[
        str | None,
        typer.Option(help="A built-in name such as math-500, or your own JSONL (with --grader).", metavar="NAME|FILE"),
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="math, exact or choice: rows hold their own golds.", metavar="GRADER")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a grade per row here.", metavar="GRADES.JSONL")] = None,
    thinking: Annotated[
        bool, typer.Option("--thinking", help="The answer must follow </think>, as for trained models.")
    ] = False,
    completion: Annotated[
        str | None, typer.Option(help="boxed, fenced, any or pattern; default: the grader's.", metavar="RULE")
    ] = None,
    completion_pattern: Annotated[
        str | None, typer.Option(help="With --completion pattern: an RE2 expression.", metavar="RE2")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many rows of each kind to list.")] = 20,
    workers: Annotated[int, typer.Option(min=1, help="Processes; default: one a core.")] = os.cpu_count() or 1,
    json_to: JsonTo = None,
) -> None:
    """Grade outputs with the rules, limits and sandbox of an evaluation.

    With --benchmark rows are {"problem", "output"}, and a problem may have several. With --grader alone they are
    {"gold", "answer"} or {"gold", "output"}. Rows with a field "right" are compared with it. Exit 4 if a row could not
    be graded. Example: potstill grade outputs.jsonl --benchmark math-500
    """
    from workloads.grade.existing import Unsupported, grade_rows, summarise, summary_json

    if out is not None and out.exists() and outputs.exists() and out.samefile(outputs):
        raise typer.BadParameter("is the file that is read", param_hint="--out")
    asked, rows = _read(outputs, benchmark, grader, completion, completion_pattern, thinking=thinking)
    if not rows:
        raise typer.BadParameter(f"{outputs} holds no row", param_hint="OUTPUTS.JSONL")
    started = time.monotonic()
    try:
        with _grades_file(out) as write:
            graded = grade_rows(asked, rows, workers)
            for one in graded:
                write(one)
    except Unsupported as error:
        print(error, file=sys.stderr)
        raise typer.Exit(4) from None
    summary = summarise(graded)
    write_json(json_to, "grade", summary_json(summary, asked))
    if shows_text(json_to):
        print("\n".join(_report_lines(asked, summary, graded, time.monotonic() - started, show)))
    raise typer.Exit(4 if summary.errors else 0)


def _read(
    outputs: Path,
    benchmark: str | None,
    grader: str | None,
    completion: str | None,
    pattern: str | None,
    *,
    thinking: bool,
) -> "tuple[Benchmark, list[OutputRow]]":
    from workloads.grade.outputs_file import read_outputs_file, read_pairs_file, rule_of

    kind = _one_of(grader, tuple(GRADERS), "--grader")
    asked_rule = _one_of(completion, COMPLETIONS, "--completion")
    if benchmark is None and (kind is None or GRADERS[kind].runs_programs):
        own_golds = ", ".join(name for name, found in GRADERS.items() if not found.runs_programs)
        message = f"give --benchmark, or --grader ({own_golds}) for rows with their own golds"
        raise typer.BadParameter(message)
    if benchmark in BENCHMARKS and kind is not None:
        raise typer.BadParameter(f"{benchmark} is built in, and has its own", param_hint="--grader")
    if (asked_rule == "pattern") != (pattern is not None):
        raise typer.BadParameter("--completion pattern and --completion-pattern go together")
    found = None if benchmark is None else load(benchmark, kind, asked_rule, pattern)
    graded_by = GRADERS[found.grader if found is not None else kind or ""]
    default = found.completion if found is not None else graded_by.completion
    try:
        rule = rule_of(asked_rule or default, pattern, thinking=thinking, choice=graded_by.keeps_box_text)
    except PatternError as error:
        raise typer.BadParameter(f"{pattern} {error}", param_hint="--completion-pattern") from error
    if found is not None:
        return found, read_outputs_file(outputs, found, rule)
    assert kind is not None
    return read_pairs_file(outputs, kind, rule)


Choice = TypeVar("Choice", bound=str)


def _one_of(value: str | None, allowed: tuple[Choice, ...], option: str) -> Choice | None:
    for one in allowed:
        if value == one:
            return one
    if value is None:
        return None
    raise typer.BadParameter(f"{value} is not one of {', '.join(allowed)}", param_hint=option)


@contextmanager
def _grades_file(path: Path | None) -> "Iterator[Callable[[GradedRow], None]]":
    """Writes rows to a temporary file that is renamed to `path` when all are written.

    Without a path nothing is written.
    """
    if path is None:
        yield lambda _: None
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield lambda one: print(json.dumps(one.to_json(), ensure_ascii=False), file=file)
        unfinished.replace(path)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror or error}", param_hint="--out") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _report_lines(
    benchmark: Benchmark, summary: "Summary", graded: "Sequence[GradedRow]", seconds: float, most: int
) -> Iterator[str]:
    """The lines of the report for people."""
    several = f" of {count_of(summary.problems, 'problem')}" if summary.problems != summary.rows else ""
    outputs = f"{count_of(summary.rows, 'output')}{several}"
    yield f"{one_line(benchmark.name)}: {outputs}, grader {benchmark.grader}, {seconds:.1f} s"
    yield f"right      {summary.right}"
    yield f"completed  {summary.completed}; right and completed {summary.right_and_completed}"
    yield f"wrong {summary.wrong}, no answer {summary.no_answer}, could not be graded {summary.errors}"
    if summary.causes:
        yield "why not right: " + ", ".join(f"{name} {count}" for name, count in summary.causes.items())
    ungraded = [one for one in graded if one.grade.verdict not in COMPARED]
    yield from _listed("could not be graded", ungraded, most)
    if not summary.stated:
        return
    yield (
        f"of {count_of(summary.stated, 'row')} that say whether they are right: "
        f"{_of(summary.missed, summary.stated_right)} right ones graded otherwise, "
        f"{_of(summary.let_pass, summary.stated_wrong)} others graded right"
    )
    off = [f"{one_line(name)} {k} of {n}" for name, (k, n) in summary.groups.items() if k]
    if off:
        rest = f" and {len(off) - most} more" if len(off) > most else ""
        yield f"by class: {', '.join(off[:most])}{rest}"
    yield from _listed("disagreements", [one for one in graded if one.disagrees], most)


def _listed(title: str, rows: "Sequence[GradedRow]", most: int) -> Iterator[str]:
    if not rows or not most:
        return
    yield f"{title}:"
    for one in rows[:most]:
        gold = one.row.gold if one.row.gold is not None else f"problem {one.grade.problem}"
        note = "" if one.row.right is None else f", said to be {'right' if one.row.right else 'not right'}"
        answer = one_line(one.grade.answer or "(no answer)", SHOWN_CHARACTERS)
        cause = f" ({one.grade.cause})" if one.grade.cause else ""
        yield f"  line {one.row.line}: {one_line(gold, SHOWN_CHARACTERS)} <- {answer}: {one.grade.verdict}{cause}{note}"
    if len(rows) > most:
        yield f"  and {len(rows) - most} more: --show {len(rows)}, or --out"


def _of(k: int, n: int) -> str:
    return f"{k} of {n}" + (f" ({k / n:.1%})" if n else "")
