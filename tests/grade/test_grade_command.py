"""`potstill grade`: its input, its counts, and its exit codes."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from workloads.api.grades import Grade
from workloads.benchmarks.model import BenchmarkError
from workloads.grade.existing import GradedRow, summarise
from workloads.grade.items import Item
from workloads.grade.outputs_file import OutputRow, read_pairs_file

DOUBLE = {"prompt": "Double x.", "entry_point": "double", "tests": [{"args": [2], "expected": 4}]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def potstill_grade(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from controller.cli import main; main()", "grade", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_pairs_are_graded_counted_and_compared_with_what_they_say(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"gold": "1/2", "answer": "0.5", "right": True, "class": "decimals"},
        {"gold": 12, "output": "It is $\\boxed{12}$.", "right": True},
        {"gold": "7", "answer": "8", "right": False, "class": "near"},
        {"gold": "7", "answer": "\x1b]0;owned\x07 9", "right": True, "class": "near"},
        {"gold": "7", "output": "I do not know [/b]."},
        {"gold": "7", "answer": None},
    ]
    write(tmp_path / "pairs.jsonl", rows)
    code, told, _ = potstill_grade(tmp_path, "--grader", "math", "pairs.jsonl", "--out", "grades.jsonl")
    assert code == 0
    assert "pairs.jsonl: 6 outputs, grader math" in told
    assert "right      33.3% (2/6, 9.7-70.0)" in told
    assert "wrong 2, no answer 2, could not be graded 0" in told
    assert "why not right: different_answer 2, no_answer_in_zone 2" in told
    assert "of 4 rows that say whether they are right: 1 of 3 (33.3%) right ones graded otherwise, 0 of 1" in told
    assert "by class: near 1 of 2" in told
    assert "line 4: 7 <- \ufffd]0;owned\ufffd 9: wrong (different_answer), said to be right" in told
    grades = [json.loads(line) for line in (tmp_path / "grades.jsonl").read_text().splitlines()]
    assert [grade["verdict"] for grade in grades] == ["right", "right", "wrong", "wrong", "no_answer", "no_answer"]
    assert [grade["line"] for grade in grades] == [1, 2, 3, 4, 5, 6]
    assert grades[3]["disagrees"] is True
    assert "right" not in grades[5]


@pytest.mark.slow
def test_programs_of_a_benchmark_are_run_in_the_sandbox_several_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "own.jsonl", [{"id": "a", **DOUBLE}, {"id": "b", **DOUBLE}])
    fence = "```python\n{}\n```"
    rows = [
        {"problem": "a", "output": fence.format("def double(x): return 2 * x"), "text": "ignored"},
        {"problem": "a", "output": fence.format("def double(x): return 3 * x")},
        {"problem": "a", "output": fence.format("import os; os._exit(3)")},
        {"problem": "b", "output": "no code"},
        {"problem": "b", "output": "cut ```python", "finish_reason": "length"},
    ]
    write(tmp_path / "outputs.jsonl", rows)
    asked = ("--benchmark", "own.jsonl", "--grader", "code", "outputs.jsonl")
    code, told, said = potstill_grade(tmp_path, *asked, "--json")
    assert code == 0, said
    found = json.loads(told)
    assert (found["rows"], found["problems"], found["wrong"], found["noAnswer"], found["errors"]) == (5, 2, 2, 2, 0)
    assert (found["right"]["k"], found["right"]["n"], found["completed"]["k"]) == (1, 5, 3)
    assert found["causes"] == {"failing_test": 1, "exit": 1, "no_answer_in_zone": 1, "unclosed_answer": 1}
    assert found["graderVersion"].startswith("grade-")


@pytest.mark.slow
def test_an_output_that_was_not_generated_cannot_be_graded(tmp_path: Path) -> None:
    write(tmp_path / "own.jsonl", [{"id": "a", "prompt": "?", "answer": "Oslo"}])
    rows = [{"problem": "a", "output": "Oslo"}, {"problem": "a", "output": "", "finish_reason": "error"}]
    write(tmp_path / "outputs.jsonl", rows)
    code, told, _ = potstill_grade(tmp_path, "--benchmark", "own.jsonl", "--grader", "exact", "outputs.jsonl")
    assert code == 4
    assert "could not be graded 1" in told
    assert "line 2: problem a <- (no answer): infra_error (generation_failed)" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rows.jsonl",), "give --benchmark, or --grader (math, exact, choice)"),
        (("rows.jsonl", "--grader", "code"), "give --benchmark, or --grader"),
        (("rows.jsonl", "--grader", "maths"), "is not one of math, code, exact, choice"),
        (("rows.jsonl", "--benchmark", "math-500", "--grader", "math"), "is built in, and has its own"),
        (("rows.jsonl", "--benchmark", "math-500"), "rows.jsonl:1: has no 'problem'"),
        (("none.jsonl", "--grader", "math"), "none.jsonl: No such file"),
        (("rows.jsonl", "--grader", "math", "--out", "rows.jsonl"), "is the file that is read"),
        (("rows.jsonl", "--grader", "math", "--out", "none/grades.jsonl"), "No such file"),
    ],
)
def test_wrong_use_ends_with_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    write(tmp_path / "rows.jsonl", [{"gold": "1", "answer": "1"}])
    code, _, complaint = potstill_grade(tmp_path, *arguments)
    assert code == 2
    assert said in " ".join(complaint.replace("│", " ").split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8: byte 0xff"),
        (b"[1]", "a row is an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"gold": "1"}', "has neither 'answer' nor 'output'"),
        (b'{"answer": "1"}', "has no 'gold'"),
        (b'{"gold": "", "answer": "1"}', "gold is empty"),
        (b'{"gold": true, "answer": "1"}', "gold is true, and must be text or a number"),
        (b'{"gold": "1", "output": 5}', "output is 5, and must be text"),
        (b'{"gold": "1", "answer": "1", "right": "yes"}', "right is"),
        (b'{"gold": "1", "answer": "1", "finish_reason": "\x1b"}', "not JSON"),
        (b'{"gold": "1", "answer": "1", "finish_reason": "done"}', "finish_reason is"),
        (b'{"gold": "A", "answer": "A", "choices": [1]}', "choices is [1]"),
        (b'{"gold": 1%b, "answer": "1"}' % (b"0" * 5000), "digits"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_file_and_line(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"gold": "1", "answer": "1"}\n\n' + line + b"\n")
    with pytest.raises(BenchmarkError) as caught:
        read_pairs_file(path, "math")
    assert str(caught.value).startswith(f"{path}:3: ")
    assert said in str(caught.value)


def test_a_problem_that_the_benchmark_does_not_have_is_named(tmp_path: Path) -> None:
    from workloads.benchmarks.load import load
    from workloads.grade.outputs_file import read_outputs_file
    from workloads.graders.extraction.completion import Rule

    benchmark = load(write(tmp_path / "own.jsonl", [{"id": "a", "prompt": "?", "answer": "1"}]), "math")
    path = write(tmp_path / "outputs.jsonl", [{"problem": "a", "output": "1"}, {"problem": "b", "output": "1"}])
    with pytest.raises(BenchmarkError, match=r'outputs.jsonl:2: own has no problem "b"; its first is \'a\''):
        read_outputs_file(path, benchmark, Rule("boxed", thinking=False))


def test_half_a_surrogate_pair_a_mark_at_the_start_and_gzip_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"gold": "\\ud83d", "answer": 5, "unknown": {}}'))
    benchmark, (row,) = read_pairs_file(path, "exact")
    assert (benchmark.problems[0].answer, row.item.answer, row.line) == ("\ufffd", "5", 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BenchmarkError, match="is not gzip, or not whole"):
        read_pairs_file(path, "exact")


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
fields = st.sampled_from(["gold", "answer", "output", "right", "class", "finish_reason", "choices", "problem"])


@given(st.lists(st.dictionaries(fields, values) | st.text() | values, max_size=4), st.sampled_from(["math", "choice"]))
def test_any_file_of_rows_is_read_or_refused_in_one_way(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], grader: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        found = len(read_pairs_file(path, grader)[1])
    except BenchmarkError as error:
        found = len(rows) if str(error).startswith(f"{path}:") else -1
    assert found == len(rows)


def graded(*outcomes: tuple[str, bool]) -> list[GradedRow]:
    rows = []
    for problem, right in outcomes:
        item = Item(problem, 0, 1, 1, True, False, True, "1", None)
        grade = Grade(
            problem=problem,
            budget_tokens=1,
            tokens=1,
            ended=True,
            completed=True,
            verdict="right" if right else "wrong",
        )
        rows.append(GradedRow(OutputRow(1, item), grade))
    return rows


def test_one_output_a_problem_has_wilsons_interval() -> None:
    found = summarise(graded(*((str(number), number < 3) for number in range(8)))).right
    assert (found.low, found.high) == pytest.approx(proportion_confint(3, 8, method="wilson"))


@pytest.mark.parametrize("repeats", [2, 10, 100])
def test_the_same_output_again_makes_no_interval_narrower(repeats: int) -> None:
    once = [(str(number), number < 8) for number in range(20)]
    alone, again = summarise(graded(*once)).right, summarise(graded(*once * repeats)).right
    assert (again.k, again.n) == (8 * repeats, 20 * repeats)
    assert (again.low, again.high) == pytest.approx((alone.low, alone.high), abs=0.02)


def test_outputs_that_do_not_depend_on_their_problem_count_as_many() -> None:
    outcomes = [(str(problem), output % 2 == 0) for problem in range(20) for output in range(10)]
    found = summarise(graded(*outcomes)).right
    assert found.low is not None
    assert found.low > 0.28
    nothing = summarise([]).right
    assert (nothing.k, nothing.n, nothing.low) == (0, 0, None)
