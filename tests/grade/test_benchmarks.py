"""Benchmarks: the built-in ones are complete; users' ones load, or the message names the wrong line."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workloads.benchmarks.load import load
from workloads.benchmarks.model import BenchmarkError
from workloads.typed_json import decode


def _file(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_math_500_is_whole_and_its_fast_part_is_stratified() -> None:
    benchmark = load("builtin:math-500")
    assert (len(benchmark.problems), len(benchmark.fast), len(benchmark.part("rest"))) == (500, 100, 400)
    assert set(benchmark.fast) | set(benchmark.part("rest")) == set(benchmark.ids)
    for level in range(1, 6):
        of_all = sum(p.level == level for p in benchmark.problems) / 5
        of_fast = sum(benchmark.problem(i).level == level for i in benchmark.fast)
        assert abs(of_all - of_fast) <= 2


def test_mbpp_plus_is_whole_and_every_gold_can_be_read() -> None:
    benchmark = load("mbpp-plus")
    assert (len(benchmark.problems), len(benchmark.fast)) == (378, 100)
    for problem in benchmark.problems:
        assert problem.tests is not None
        assert [suite.name for suite in problem.tests.suites] == ["base", "plus"]
        for suite in problem.tests.suites:
            assert len(suite.arguments) == len(suite.expected) == len(suite.reference_seconds)
            assert all(isinstance(decode(arguments), list) for arguments in suite.arguments[:3])
            assert all(decode(expected) is not Ellipsis for expected in suite.expected[:3])
        assert problem.tests.suites[0].arguments


def test_a_subset_by_ids_or_by_number() -> None:
    benchmark = load("math-500")
    assert benchmark.select(limit=8) == benchmark.ids[:8]
    assert benchmark.select((benchmark.ids[3],)) == (benchmark.ids[3],)
    with pytest.raises(BenchmarkError, match="no problem 'nope'"):
        benchmark.select(("nope",))


def test_a_users_math_file(tmp_path: Path) -> None:
    benchmark = load(_file(tmp_path, {"id": "a", "prompt": "1+1?", "answer": 2}), grader="math")
    assert benchmark.problems[0].answer == "2"
    assert (benchmark.completion, benchmark.fast) == ("boxed", ("a",))


def test_a_users_code_file_with_tests_or_asserts(tmp_path: Path) -> None:
    asserts = "assert f((1, 2)) == {1}\nassert not f(())\nassert [3] == f(3)"
    rows = [
        {"id": "a", "prompt": "p", "entry_point": "f", "tests": [{"args": [1], "expected": [2]}]},
        {"id": "b", "prompt": "p", "entry_point": "f", "asserts": asserts},
    ]
    first, second = load(_file(tmp_path, *rows), grader="code").problems
    assert first.tests is not None
    assert second.tests is not None
    assert decode(first.tests.suites[0].arguments[0]) == [1]
    values, truths = second.tests.suites
    assert [decode(a) for a in values.arguments] == [[(1, 2)], [3]]
    assert [decode(e) for e in values.expected] == [{1}, [3]]
    assert (truths.oracle, [decode(e) for e in truths.expected]) == ("truth", [False])


CODE: dict[str, object] = {"id": "a", "prompt": "p", "entry_point": "f"}
SUITES = [
    {"name": "t", "arguments": ["[]"], "expected": ["1"], "seconds": [0], "tolerance": 0, "oracle": "anything"},
]


@pytest.mark.parametrize(
    ("grader", "row", "message"),
    [
        ("math", "{", "mine.jsonl:1: not JSON"),
        ("math", [1], "a row is an object"),
        ("math", {"id": "a", "prompt": "p"}, "has no 'answer'"),
        ("math", {"id": "a", "prompt": "", "answer": 1}, "prompt must be text"),
        ("math", {"id": "a", "prompt": "p", "answer": [1]}, "answer is [1]"),
        ("math", {"id": "a", "prompt": "p", "answer": None}, "answer is null"),
        ("math", {"id": "a", "prompt": "p", "answer": True}, "answer is true"),
        ("math", {"id": "a", "prompt": "p", "answer": "1", "solution": 5}, "solution must be text"),
        ("choice", {"id": "a", "prompt": "p", "answer": "A", "choices": "AB"}, 'choices is "AB", and must be a list'),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "tests": [[1]]}, "a test is [1], and must be {args"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "tests": [{"args": 2, "expected": 1}]}, "args is 2"),
        (
            "math",
            {"id": "a", "prompt": "p", "answer": 1, "tolerences": 1},  # codespell:ignore
            "unknown field 'tolerences'; did you mean tolerance?",  # codespell:ignore
        ),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f"}, "give tests"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "tests": []}, "no tests"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(1) > 2"}, "cannot be taken apart"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "import os"}, "cannot be taken apart"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert f(x) == 1"}, "cannot be taken"),
        ("code", {"id": "a", "prompt": "p", "entry_point": "f", "asserts": "assert ("}, "asserts are not Python"),
        ("code", CODE | {"asserts": "assert f(\x00) == 1"}, "asserts are not Python"),
        ("code", CODE | {"asserts": "assert f(1) == {[]}"}, "cannot be taken apart"),
        ("code", CODE | {"asserts": "assert f(1) == " + "[" * 5_000}, "asserts are n"),
        ("code", CODE | {"asserts": "assert f(1) == " + "-" * 5_000 + "1"}, "asserts are nested too deeply"),
        ("code", CODE | {"asserts": "assert f(1) == float"}, "cannot be taken apart"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": float("nan")}, "tolerance is NaN"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": float("inf")}, "tolerance is Infinity"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": -1}, "tolerance is -1, and must be"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": 10**400}, "and must be a finite number"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": True}, "tolerance is true"),
        ("code", CODE | {"tests": [{"args": [], "expected": 1}], "tolerance": "1"}, 'tolerance is "1"'),
        ("code", CODE | {"tests": [{"args": [], "expected": float("nan")}]}, "expected is nan: no value that"),
        ("code", CODE | {"suites": SUITES}, "suites, with their oracles, are for builtin benchmarks"),
        ("code", CODE | {"suites": 5}, "suites, with their oracles, are for builtin benchmarks"),
        ("code", CODE | {"entry_point": "f()", "tests": [{"args": [], "expected": 1}]}, "entry_point is 'f()'"),
        ("code", CODE | {"entry_point": "def", "tests": [{"args": [], "expected": 1}]}, "entry_point is 'def'"),
        ("math", {"id": "\ud800", "prompt": "p", "answer": 1}, r"id has half a surrogate pair, \ud800"),
        ("math", {"id": "a", "prompt": "\udfff", "answer": 1}, "prompt has half a surrogate pair"),
        ("math", {"id": "a", "prompt": "p", "answer": "\ud800"}, "answer has half a surrogate pair"),
        ("choice", {"id": "a", "prompt": "p", "answer": "A", "choices": ["\ud800"]}, "a choice has half a surrogate"),
        ("math", {"id": "a\x00", "prompt": "p", "answer": 1}, "has the control character U+0000"),
        ("math", {"id": "\x1b[31m", "prompt": "p", "answer": 1}, r"id '\x1b[31m' has the control character U+001B"),
        ("math", {"id": "a\nb", "prompt": "p", "answer": 1}, "has the control character U+000A"),
        ("math", {"id": "a\u2028b", "prompt": "p", "answer": 1}, "has the control character U+2028"),
        ("math", {"id": "a", "prompt": "p", "answer": float("nan")}, "answer is nan, and must be"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, grader: str, row: object, message: str) -> None:
    with pytest.raises(BenchmarkError, match=r"mine\.jsonl:1: ") as error:
        load(_file(tmp_path, row), grader=grader)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"id": "a", "prompt": ' + "[" * 100_000,
        '{"id": "a", "prompt": "p", "answer": ' + "[" * 900 + "]" * 900 + "}",
        '{"id": "a", "prompt": "p", "entry_point": "f", "tests": [{"args": [%s], "expected": 1}]}'
        % ("[" * 900 + "]" * 900),
        '{"id": "a", "prompt": "p", "entry_point": "f", "tests": [{"args": [], "expected": %s}]}'
        % ("[" * 900 + "]" * 900),
        '{"id": "a", "prompt": "p", "entry_point": "f", "tests": [{"args": [], "expected": %s}]}'
        % ("[" * 200 + "]" * 200),
        '{"id": "a", "prompt": "p", "entry_point": "f", "tests": %s}' % ("[" * 900 + "]" * 900),
    ],
)
@pytest.mark.parametrize("grader", ["code", "math"])
def test_deep_json_is_refused_with_its_line(tmp_path: Path, grader: str, line: str) -> None:
    (tmp_path / "mine.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(BenchmarkError, match=r"mine\.jsonl:2: "):
        load(tmp_path / "mine.jsonl", grader=grader)


ROWS = st.fixed_dictionaries(
    {},
    optional={
        name: st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.sampled_from(["f", "\ud800", "\x1b", "assert f(1) == 1"]),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["args", "expected", "x"]), inner)
            ),
            max_leaves=5,
        )
        for name in (
            "id",
            "prompt",
            "answer",
            "choices",
            "entry_point",
            "tests",
            "asserts",
            "suites",
            "tolerance",
            "solution",
        )
    },
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(["code", "math", "exact", "choice"]))
def test_any_row_is_read_or_refused(tmp_path: Path, row: dict[str, object], grader: str) -> None:
    path = _file(tmp_path, {"id": "a", "prompt": "p", "answer": "1", "entry_point": "f"} | row)
    with contextlib.suppress(BenchmarkError):
        for problem in load(path, grader=grader).problems:
            problem.id.encode()
            problem.prompt.encode()


def test_two_rows_of_one_id_are_named(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "p", "answer": "1"}
    with pytest.raises(BenchmarkError, match=r"mine\.jsonl:2: id 'a' is that of line 1 too"):
        load(_file(tmp_path, row, row), grader="exact")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("mine.jsonl", b'{"id"\n\xff', "mine.jsonl:2: not UTF-8: byte 0xff"),
        ("mine.jsonl.gz", b"x", "mine.jsonl.gz: ends in .gz and is not gzip"),
        ("mine.jsonl", b"\n", "mine.jsonl: no problems in it"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BenchmarkError) as error:
        load(tmp_path / name, grader="math")
    assert message in str(error.value)


def test_the_error_for_an_unknown_benchmark_lists_the_built_in_ones(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no such file, and no built-in benchmark: those are math-500, mbpp-plus"):
        load(tmp_path / "math500")
