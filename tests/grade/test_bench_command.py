"""`potstill bench test`: its output and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DOUBLE = {"prompt": "Double x.", "entry_point": "double", "tests": [{"args": [2], "expected": 4}]}


def _bench_test(folder: Path, rows: list[dict[str, object]], *arguments: str) -> tuple[int, str]:
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = [sys.executable, "-c", "from controller.cli import main; main()", "bench", "test", *arguments]
    done = subprocess.run(
        program,
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([{"id": "a", **DOUBLE, "solution": "def double(x): return 2 * x"}], 0, "own: 1 of 1 golds are graded right"),
        ([{"id": "a", **DOUBLE, "solution": "def double(x): return \x1b 3"}], 1, "a: wrong (syntax_error): def double(x): return \ufffd 3"),
        ([{"id": "a", **DOUBLE}], 4, "own: 0 of 0 golds are graded right; no answer to test: 1"),
        ([{"id": "a", **DOUBLE, "tests": [{"args": 2}]}], 2, "own.jsonl:1: a test is"),
        ([], 2, "own.jsonl: no problems in it"),
    ],
)  # fmt: skip
def test_golds_of_code(tmp_path: Path, rows: list[dict[str, object]], code: int, said: str) -> None:
    found, output = _bench_test(tmp_path, rows, "own.jsonl", "--grader", "code")
    assert found == code, output
    assert said in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("own.jsonl",), "say how it is graded"),
        (("own.jsonl", "--grader", "maths"), "is not one of math, code, exact, choice"),
        (("own.jsonl", "--grader", "math", "--workers", "0"), "--workers"),
        (("math-500", "--grader", "code"), "math-500 is built in, and has its own"),
        (("math500",), "no such file, and no built-in benchmark"),
    ],
)
def test_wrong_use_is_reported(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    code, output = _bench_test(tmp_path, [{"id": "a", "prompt": "p", "answer": "1"}], *arguments)
    assert code == 2
    assert said in output


def test_golds_that_no_equal_answer_would_match_are_warned_about(tmp_path: Path) -> None:
    golds = {"time": "11:00", "half": "12:30", "fine": r"\frac{1}{2}", "text": r"2 + \frac{3}{"}
    rows: list[dict[str, object]] = [{"id": name, "prompt": "p", "answer": gold} for name, gold in golds.items()]
    _, output = _bench_test(tmp_path, rows, "own.jsonl", "--grader", "math")
    assert "warning: time: mathematics reads the time or ratio 11:00 as a division; use grader: exact" in output
    assert "warning: half: mathematics reads the time or ratio 12:30 as a division; use grader: exact" in output
    assert "warning: text: no value can be read in the gold" in output
    assert "warning: fine" not in output
