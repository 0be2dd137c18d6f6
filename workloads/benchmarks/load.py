"""Reads a benchmark from its JSONL (or .jsonl.gz): files of the registry and users' files have one format.

A row: `id`, `prompt`; math and exact `answer`; choice `answer` and optionally `choices`; code `entry_point` with
`tests: [{args, expected}]`, or `asserts: "..."`; builtin files have `suites`. Optional: solution, subject, level.
Further fields are ignored and named in `Benchmark.unused_fields`.
"""

import gzip
import hashlib
import json
import keyword
import math
import unicodedata
import zlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from workloads.benchmarks.asserts import parse_asserts
from workloads.benchmarks.model import Benchmark, BenchmarkError, CodeTests, CompletionRule, Problem, Suite
from workloads.benchmarks.registry import BENCHMARKS, definition_of
from workloads.graders.base import Grader
from workloads.graders.registry import GRADERS
from workloads.registry import RegistryError
from workloads.storage.content_digest import BUILTIN_PREFIX
from workloads.typed_json import Digest, decode, encode, encode_input

FAST_PROBLEMS = 100
TOO_DEEP = "lists or objects are nested too deeply to be read"
_FIELDS = {
    "id", "prompt", "answer", "choices", "entry_point", "tests", "asserts", "suites", "tolerance", "solution",
    "subject", "level",
}  # fmt: skip
_DECIDE = ("choices", "tolerance")
"""Optional fields that change verdicts. A field with a similar name is a mistake, and not a further field."""


def load(
    location: str | Path,
    grader: str | None = None,
    completion: CompletionRule | None = None,
    completion_pattern: str | None = None,
) -> Benchmark:
    """Reads a builtin by name (`math-500`, `builtin:mbpp-plus`), or a file. A file needs `grader`; a builtin has its
    own.

    Raises BenchmarkError, which names the file, the line and the problem.
    """
    name = str(location).removeprefix(BUILTIN_PREFIX)
    if str(location).startswith(BUILTIN_PREFIX) or name in BENCHMARKS:
        found = definition_of(name)
        if completion is None:
            completion, completion_pattern = found.completion, found.completion_pattern
        return load_file(found.path, name, found.grader, completion, completion_pattern, found.fast, is_registered=True)
    path = Path(location)
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file, and no built-in benchmark: those are {', '.join(BENCHMARKS)}")
    if grader is None:
        raise BenchmarkError(f"{path}: say how it is graded: grader: {', '.join(GRADERS)}")
    return load_file(path, path.name.removesuffix(".gz").removesuffix(".jsonl"), grader, completion, completion_pattern)


def load_file(
    path: Path,
    name: str,
    grader: str,
    completion: CompletionRule | None = None,
    completion_pattern: str | None = None,
    fast: tuple[str, ...] | None = None,
    *,
    is_registered: bool = False,
) -> Benchmark:
    """`fast`: None takes the FAST_PROBLEMS ids with the smallest SHA-256, which is a fixed choice.

    `is_registered`: a file of the registry, which may have `suites`. Raises BenchmarkError.
    """
    try:
        graded_by = GRADERS.require(grader)
    except RegistryError as error:
        raise BenchmarkError(f"{path}: grader: {error}") from error
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file")
    data = path.read_bytes()
    unused: dict[str, None] = {}
    problems = tuple(_rows(path, data, graded_by, unused, is_registered=is_registered))
    if not problems:
        raise BenchmarkError(f"{path}: no problems in it")
    ids = [problem.id for problem in problems]
    if fast is None:
        chosen = set(sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest())[:FAST_PROBLEMS])
        fast = tuple(i for i in ids if i in chosen)
    rule = completion or graded_by.completion
    if (rule == "pattern") != (completion_pattern is not None):
        raise BenchmarkError(f"{name}: completion `pattern` and a completionPattern go together")
    return Benchmark(
        name=name,
        grader=grader,
        completion=rule,
        completion_pattern=completion_pattern,
        sha256=hashlib.sha256(data).hexdigest(),
        problems=problems,
        fast=fast,
        unused_fields=tuple(unused),
    )


def _rows(
    path: Path, data: bytes, grader: Grader, unused: dict[str, None], *, is_registered: bool
) -> Iterator[Problem]:
    """`unused`: names of ignored fields are added to it."""
    seen: dict[str, int] = {}
    text = _text_of(path, data)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except RecursionError as e:
            raise BenchmarkError(f"{where}: {TOO_DEEP}") from e
        except ValueError as e:
            raise BenchmarkError(f"{where}: not JSON: {e}") from e
        if not isinstance(row, dict):
            raise BenchmarkError(f"{where}: a row is an object with id, prompt and an answer or tests")
        try:
            problem = _problem(row, grader, is_registered=is_registered)
        except RecursionError as e:
            raise BenchmarkError(f"{where}: {TOO_DEEP}") from e
        except (KeyError, TypeError, ValueError) as e:
            reason = f"has no {e.args[0]!r}" if isinstance(e, KeyError) else str(e)
            raise BenchmarkError(f"{where}: {reason}") from e
        unused.update(dict.fromkeys(name for name in row if name not in _FIELDS))
        if problem.id in seen:
            raise BenchmarkError(f"{where}: id {problem.id!r} is that of line {seen[problem.id]} too")
        seen[problem.id] = number
        yield problem


def _text_of(path: Path, data: bytes) -> str:
    try:
        return (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BenchmarkError(f"{path}: this is UTF-16 text: save it as UTF-8") from e
        line = e.object[: e.start].count(b"\n") + 1
        raise BenchmarkError(f"{path}:{line}: not UTF-8: byte {e.object[e.start]:#04x}") from e
    except (OSError, EOFError, zlib.error) as e:
        raise BenchmarkError(f"{path}: ends in .gz and is not gzip, or not whole: {e}") from e


def _problem(row: dict[str, Any], grader: Grader, *, is_registered: bool) -> Problem:
    for name in row.keys() - _FIELDS:
        meant = get_close_matches(name.lower(), [field for field in _DECIDE if field not in row], n=1, cutoff=0.8)
        if meant:
            raise ValueError(f"unknown field {name[:40]!r}; did you mean {meant[0]}?")
    answer = None if grader.runs_programs else row["answer"]
    is_text = isinstance(answer, str | int | float) and not isinstance(answer, bool) and answer != ""
    if not grader.runs_programs and not is_text:
        raise ValueError(f"answer is {json.dumps(answer)[:40]}, and must be text or a number")
    if isinstance(answer, float) and not math.isfinite(answer):
        raise ValueError(f"answer is {answer}, and must be text or a finite number")
    choices = tuple(_text(choice, "a choice") for choice in _list(row.get("choices", []), "choices"))
    return Problem(
        id=_id(row["id"]),
        prompt=_text(row["prompt"], "prompt"),
        answer=None if answer is None else _text(str(answer), "answer"),
        choices=choices,
        tests=_tests(row, is_registered=is_registered) if grader.runs_programs else None,
        reference_solution=_text(row["solution"], "solution") if "solution" in row else None,
        subject=row.get("subject"),
        level=row.get("level"),
    )


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be text, and not empty")
    if half := next((c for c in value if unicodedata.category(c) == "Cs"), None):
        raise ValueError(
            f"{what} has half a surrogate pair, \\u{ord(half):04x}, which is not a character: leave it out"
        )
    return value


def _id(value: Any) -> str:
    """Ids are printed and used as keys in files, so they may have no control characters and no line ends."""
    text = _text(value, "id")
    if bad := next((c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")), None):
        raise ValueError(f"id {text[:40]!a} has the control character U+{ord(bad):04X}: leave it out")
    return text


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is {json.dumps(value)[:40]}, and must be a list")
    return value


def _case(test: Any) -> tuple[list[Any], Any, bool]:
    if not isinstance(test, dict) or set(test) != {"args", "expected"}:
        raise ValueError(f"a test is {json.dumps(test)[:40]}, and must be {{args, expected}}")
    return _list(test["args"], "args"), test["expected"], False


def _tests(row: dict[str, Any], *, is_registered: bool) -> CodeTests:
    entry_point = _text(row["entry_point"], "entry_point")
    if not entry_point.isidentifier() or keyword.iskeyword(entry_point):
        raise ValueError(f"entry_point is {entry_point[:40]!r}, and must be the name of a function")
    if "suites" in row:
        if not is_registered:
            raise ValueError("suites, with their oracles, are for builtin benchmarks: give tests: [{args, expected}]")
        return CodeTests(entry_point, tuple(map(_suite, row["suites"])))
    if ("tests" in row) == ("asserts" in row):
        raise ValueError("give tests: [{args, expected}], or asserts, one of the two")
    if "tests" in row:
        cases = [_case(test) for test in _list(row["tests"], "tests")]
    else:
        cases = parse_asserts(_text(row["asserts"], "asserts"), entry_point)
    if not cases:
        raise ValueError("no tests")
    tolerance = _tolerance(row.get("tolerance", 0.0))
    suites = tuple(
        Suite(
            name=name,
            arguments=tuple(encode_input(arguments) for arguments, _, _ in chosen),
            expected=tuple(_expected(expected) for _, expected, _ in chosen),
            reference_seconds=(0.0,) * len(chosen),
            tolerance=tolerance,
            oracle=oracle,
        )
        for name, oracle, truth in (("tests", "equal", False), ("truths", "truth", True))
        if (chosen := [case for case in cases if case[2] == truth])
    )
    return CodeTests(entry_point, suites)


def _suite(suite: dict[str, Any]) -> Suite:
    return Suite(
        name=suite["name"],
        arguments=tuple(suite["arguments"]),
        expected=tuple(suite["expected"]),
        reference_seconds=tuple(suite["seconds"]),
        tolerance=suite["tolerance"],
        oracle=suite["oracle"],
    )


def _tolerance(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            tolerance = float(value)
        except OverflowError:
            tolerance = math.inf
        if 0 <= tolerance < math.inf:
            return tolerance
    raise ValueError(f"tolerance is {json.dumps(value)[:40]}, and must be a finite number, 0 or larger")


def _expected(value: Any) -> str:
    """Returns typed JSON. Raises ValueError for a value that no returned value can equal: NaN, or one too deep."""
    text = encode(value)
    gold = decode(text)
    if not isinstance(gold, Digest) and gold != value:
        raise ValueError(f"expected is {repr(value)[:40]}: no value that a program returns would be equal to it")
    return text
