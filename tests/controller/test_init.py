"""`potstill init` writes an experiment for somebody's data that validates and runs to a report."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from tests.experiment.test_validate import BASE, write_rows

ROWS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"question": f"{n} + {n}", "answer": f"\\boxed{{{2 * n}}}", "source": "made"} for n in range(ROWS)]
    write_rows(tmp_path / "data.jsonl", rows)
    write_rows(tmp_path / "bench.jsonl", [{"id": f"p{n}", "prompt": f"{n} + 1", "answer": n + 1} for n in range(4)])
    return tmp_path


def init(folder: Path, *options: str, **changes: str) -> Result:
    stated = {"data": "data.jsonl", "base": str(BASE), "benchmark": "bench.jsonl", "grader": "math"} | changes
    flags = [word for name, value in stated.items() if value for word in (f"--{name}", value)]
    return CliRunner().invoke(app, ["init", "--out", str(folder / "e.yaml"), *flags, *options])


def words(result: Result) -> str:
    """Its output without the frame of an error and its line ends."""
    return " ".join(result.output.replace("│", " ").split())


def test_what_it_writes_is_valid_and_fits_the_data(folder: Path) -> None:
    assert init(folder).exit_code == 0
    spec = yaml.safe_load((folder / "e.yaml").read_text())["spec"]
    assert spec["data"]["mine"]["columns"] == {"prompt": "question", "response": "answer"}
    training = spec["training"]
    assert training["samples"] % training["batchSize"] == 0
    assert 0 < training["samples"] <= ROWS
    found = json.loads(CliRunner().invoke(app, ["validate", str(folder / "e.yaml"), "--json"]).stdout)
    assert found["valid"]
    assert all("ColumnsNotRead" in warning for warning in found["warnings"]), found["warnings"]


def test_responses_without_the_end_of_thinking_make_a_run_without_it(folder: Path) -> None:
    assert init(folder).exit_code == 0
    (run,) = yaml.safe_load((folder / "e.yaml").read_text())["spec"]["runs"]
    assert run["thinking"] is False
    rows = [{"question": f"{n} + {n}", "answer": f"so</think>\\boxed{{{2 * n}}}"} for n in range(ROWS)]
    write_rows(folder / "data.jsonl", rows)
    assert init(folder, "--force").exit_code == 0
    (run,) = yaml.safe_load((folder / "e.yaml").read_text())["spec"]["runs"]
    assert "thinking" not in run


@pytest.mark.parametrize("options", [(), ("--columns", "prompt,completion")])
def test_conversations_are_refused_with_the_example_to_begin_with(folder: Path, options: tuple[str, ...]) -> None:
    turns = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]
    row = {"prompt": turns[:1], "completion": turns[1:]} if options else {"messages": turns}
    write_rows(folder / "data.jsonl", [row] * ROWS)
    refused = init(folder, *options)
    assert refused.exit_code == 2
    assert "begin with examples/chat.yaml" in words(refused)
    assert not (folder / "e.yaml").exists()


def test_a_file_that_is_there_is_not_written_over(folder: Path) -> None:
    assert init(folder).exit_code == 0
    (folder / "e.yaml").write_text("mine")
    refused = init(folder)
    assert (refused.exit_code, "is there already" in words(refused)) == (2, True)
    assert (folder / "e.yaml").read_text() == "mine"
    assert init(folder, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nothing.jsonl"}, "is not a file"),
        ({"base": "nothing"}, "is no directory here and no name of a hub model"),
        ({"benchmark": "aime"}, "is not built in (math-500, mbpp-plus, gsm8k, humaneval-plus)"),
        ({"grader": "maths"}, "maths is not one of math, code, exact, choice"),
        ({"benchmark": ""}, "is required where there is no terminal to ask at"),
    ],
)
def test_wrong_answers_say_what_to_do(folder: Path, changes: dict[str, str], message: str) -> None:
    refused = init(folder, **changes)
    assert refused.exit_code == 2
    assert message in words(refused)
    assert not (folder / "e.yaml").exists()


def test_columns_that_are_not_known_are_listed_and_can_be_stated(folder: Path) -> None:
    write_rows(folder / "data.jsonl", [{"frage": "1 + 1", "antwort": "2"}] * ROWS)
    refused = init(folder)
    assert "has the columns frage, antwort" in words(refused)
    assert init(folder, "--columns", "frage,antwort").exit_code == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_runs_to_a_report(folder: Path) -> None:
    assert init(folder).exit_code == 0
    done = CliRunner().invoke(app, ["run", str(folder / "e.yaml"), "--store", str(folder / "store")])
    assert done.exit_code == 0, done.output
    assert "Last checkpoints" in done.output
    assert list((folder / "store").rglob("report/index.html"))
