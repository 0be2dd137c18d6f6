"""Reads existing outputs from a JSONL file, for `potstill grade`.

With a benchmark a row is `{"problem": id, "output": text}`; a problem may have several rows. Without one, each row has
a gold: `{"gold": ..., "answer": ...}`, or `{"gold": ..., "output": text}` from which the answer is extracted first.
Optional in every row: `right` (the expected verdict), `class` (a name under which disagreements are counted),
`finish_reason` ("length": cut by a limit, "error": not generated), and beside a gold `choices`. Other fields are
ignored.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.api.grades import Incomplete
from workloads.benchmarks.model import Benchmark, BenchmarkError, CompletionRule, Problem
from workloads.grade.items import Item, entry_points_of
from workloads.graders.extraction.completion import Extraction, Rule, read
from workloads.graders.extraction.pattern import pattern_of
from workloads.graders.registry import GRADERS
from workloads.untrusted import encodable, one_line

LONGEST_LINE_BYTES = 64 << 20
FINISH_REASONS = ("stop", "length", "error")


@dataclass(frozen=True)
class OutputRow:
    """A row of the file. `right`, `group`: its fields `right` and `class`, if present."""

    line: int
    item: Item
    gold: str | None = None
    right: bool | None = None
    group: str | None = None


def rule_of(completion: CompletionRule, pattern: str | None, *, thinking: bool, choice: bool = False) -> Rule:
    """Returns the rule for extracting an answer from an output. Raises PatternError."""
    return Rule(completion, thinking, None if pattern is None else pattern_of(pattern), choice=choice)


def read_outputs_file(path: Path, benchmark: Benchmark, rule: Rule) -> list[OutputRow]:
    """Returns rows of outputs of a benchmark's problems.

    Raises BenchmarkError, which names the file, the line and the problem.
    """
    known, entry_points = frozenset(benchmark.ids), entry_points_of(benchmark)
    outputs: Counter[str] = Counter()
    rows = []
    for number, fields in _objects(path):
        with _Place(path, number):
            problem = _text(fields, "problem")
            if problem not in known:
                raise ValueError(
                    f"{benchmark.name} has no problem {_shown(problem)}; its first is {benchmark.ids[0]!r}"
                )
            entry_point = entry_points.get(problem)
            rows.append(_row(number, fields, problem, outputs[problem], rule, entry_point=entry_point))
            outputs[problem] += 1
    return rows


def read_pairs_file(path: Path, grader: str, rule: Rule | None = None) -> tuple[Benchmark, list[OutputRow]]:
    """Returns rows with their own golds, and a benchmark made from them: a problem per row, named by its line.

    `rule` reads rows that have an output instead of an answer. Raises BenchmarkError like `read_outputs_file`.
    """
    graded_by = GRADERS.require(grader)
    rule = rule or Rule(graded_by.completion, thinking=False, choice=graded_by.keeps_box_text)
    problems, rows = [], []
    for number, fields in _objects(path):
        with _Place(path, number):
            gold = _answer(fields, "gold")
            if not gold:
                raise ValueError("gold is empty")
            problem = Problem(id=str(number), prompt="-", answer=gold, choices=_choices(fields))
            problems.append(problem)
            rows.append(_row(number, fields, problem.id, 0, rule, gold))
    pairs = Benchmark(path.name, grader, rule.completion, None, "", tuple(problems), ())
    return pairs, rows


def _row(
    number: int,
    fields: dict[str, Any],
    problem: str,
    index: int,
    rule: Rule,
    gold: str | None = None,
    entry_point: str | None = None,
) -> OutputRow:
    finish = fields.get("finish_reason")
    if finish is not None and finish not in FINISH_REASONS:
        raise ValueError(f"finish_reason is {_shown(finish)}, not one of {', '.join(FINISH_REASONS)}")
    if "output" in fields:
        reading = read(_text(fields, "output"), rule, ended=finish in (None, "stop"), entry_point=entry_point)
    elif gold is not None and "answer" in fields:
        answer = _answer(fields, "answer")
        reading = Extraction(answer is not None, answer, None if answer is not None else "no_answer_in_zone")
    else:
        raise ValueError("has no 'output'" if gold is None else "has neither 'answer' nor 'output'")
    right, group = fields.get("right"), fields.get("class")
    if right is not None and not isinstance(right, bool):
        raise ValueError(f"right is {_shown(right)}, and must be true or false")
    item = _item(problem, index, reading.answer, reading.incomplete, finish)
    return OutputRow(number, item, gold, right, group if isinstance(group, str) else None)


def _item(problem: str, index: int, answer: str | None, incomplete: Incomplete | None, finish: str | None) -> Item:
    return Item(
        problem=problem,
        index=index,
        budget_tokens=1,
        tokens=1,
        ended=finish in (None, "stop"),
        failed=finish == "error",
        completed=incomplete is None,
        answer=answer,
        incomplete=incomplete,
    )


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line number and object of each line that is not blank, one line in memory at a time."""
    for number, line in _lines(path):
        with _Place(path, number):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            fields = json.loads(text, parse_constant=_no_number)
            if not isinstance(fields, dict):
                raise ValueError("a row is an object: {...}")
        yield number, fields


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LONGEST_LINE_BYTES:
                    raise BenchmarkError(f"{path}:{number}: has more than {LONGEST_LINE_BYTES >> 20} MiB")
                if line.strip():
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchmarkError(f"{path}: ends in .gz and is not gzip, or not whole: {error}") from error
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror or error}") from error


class _Place:
    """Converts an error in a line to a BenchmarkError that names file and line."""

    def __init__(self, path: Path, number: int) -> None:
        self._where = f"{path}:{number}"

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case RecursionError():
                raise BenchmarkError(f"{self._where}: nested too deeply") from error
            case UnicodeDecodeError():
                raise BenchmarkError(f"{self._where}: not UTF-8: byte {error.object[error.start]:#04x}") from error
            case json.JSONDecodeError():
                raise BenchmarkError(f"{self._where}: not JSON: {error}") from error
            case ValueError():
                raise BenchmarkError(f"{self._where}: {error}") from error


def _text(fields: dict[str, Any], name: str) -> str:
    """Returns the text. Half a surrogate pair, which no tokenizer produces, becomes U+FFFD."""
    if name not in fields:
        raise ValueError(f"has no {name!r}")
    if not isinstance(fields[name], str):
        raise ValueError(f"{name} is {_shown(fields[name])}, and must be text")
    return encodable(fields[name])


def _answer(fields: dict[str, Any], name: str) -> str | None:
    """Returns text or a number as text, as in a benchmark's file. None for null and for only spaces."""
    if name not in fields:
        raise ValueError(f"has no {name!r}")
    value = fields[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is {_shown(value)}, and must be text or a number")
    text = encodable(str(value))
    return text if text.strip() else None


def _choices(fields: dict[str, Any]) -> tuple[str, ...]:
    choices = fields.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
        raise ValueError(f"choices is {_shown(choices)}, and must be a list of texts")
    return tuple(map(encodable, choices))


def _no_number(name: str) -> None:
    raise ValueError(f"not JSON: {name}")


def _shown(value: Any) -> str:
    return one_line(json.dumps(value), 60)
