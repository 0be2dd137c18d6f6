"""`potstill init` writes an experiment for the user's data that validates and runs to a report."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import yaml
from pyarrow import Table, parquet
from typer.testing import CliRunner, Result

from controller.cli import app
from tests.experiment.test_validate import BASE, write_rows
from workloads.models.files import why_hub_unreachable

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
    """The output without the frame of an error and without line ends."""
    return " ".join(result.output.replace("│", " ").split())


def test_init_writes_a_valid_file_that_fits_the_data(folder: Path) -> None:
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


TURNS = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]
FORMATS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "messages": ({"messages": TURNS}, {"format": "messages", "template": "base"}),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "1 + 1"}, {"from": "gpt", "value": "2"}]},
        {"format": "sharegpt", "template": "base"},
    ),
    "alpaca": ({"instruction": "Add.", "input": "1, 1", "output": "2"}, {"format": "alpaca", "template": "chatml"}),
    "lists": (
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"columns": {"prompt": "prompt", "response": "completion"}, "template": "base"},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_of_the_data_is_written_so_that_validate_accepts_it(folder: Path, name: str) -> None:
    row, expected = FORMATS[name]
    write_rows(folder / "data.jsonl", [row] * ROWS)
    done = init(folder)
    assert done.exit_code == 0, done.output
    mine = yaml.safe_load((folder / "e.yaml").read_text())["spec"]["data"]["mine"]
    assert mine == {"uri": "data.jsonl", **expected}
    found = json.loads(CliRunner().invoke(app, ["validate", str(folder / "e.yaml"), "--json"]).stdout)
    assert found["valid"]


def test_csv_and_parquet_are_read_as_the_trainer_reads_them(folder: Path) -> None:
    (folder / "data.csv").write_text("Question,Answer\n" + "1 + 1,2\n" * ROWS)
    parquet.write_table(Table.from_pylist([{"messages": TURNS}] * ROWS), folder / "data.parquet")
    for name in ("data.csv", "data.parquet"):
        done = init(folder, "--force", data=name)
        assert done.exit_code == 0, done.output
        assert f"of {ROWS} rows" in done.output


def test_a_template_that_changes_earlier_turns_learns_the_last_ones(folder: Path) -> None:
    base = folder / "base"
    shutil.copytree(BASE, base)
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    thought = {"role": "assistant", "content": "<think>so</think>2"}
    write_rows(folder / "data.jsonl", [{"messages": [TURNS[0], thought, TURNS[0], thought]}] * ROWS)
    done = init(folder, base=str(base))
    assert done.exit_code == 0, done.output
    spec = yaml.safe_load((folder / "e.yaml").read_text())["spec"]
    assert (spec["data"]["mine"]["template"], spec["data"]["mine"]["loss"]) == ("base", "last")
    assert "thinking" not in spec["runs"][0]


def test_data_in_several_formats_need_the_columns(folder: Path) -> None:
    write_rows(folder / "data.jsonl", [{"problem": "1 + 1", "solution": "2", "messages": TURNS}] * ROWS)
    refused = init(folder)
    assert refused.exit_code == 2
    assert "messages or problem,solution. Columns are stated with --columns" in words(refused)
    assert not (folder / "e.yaml").exists()
    assert init(folder, "--columns", "messages").exit_code == 0


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"benchmark": "gsm8k"}, "--benchmark: download https://"),
        ({"base": "owner/model"}, "--base: owner/model: the hub is not asked (HF_HUB_OFFLINE). Without the hub, write"),
        ({"data": f"hf://datasets/owner/rows@{'0' * 40}"}, "--data: hf://datasets/owner/rows@"),
        (
            {"data": "s3://bucket/rows.jsonl"},
            "--data: s3://bucket/rows.jsonl: init reads data that are on this machine",
        ),
        ({"name": "Not_A_Name"}, "--name: 'Not_A_Name' may have small letters"),
        ({"benchmark": "data.jsonl"}, "has no 'id'"),
    ],
)
def test_an_unusable_input_is_refused_with_its_option_and_no_file_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stated: dict[str, str], message: str
) -> None:
    def unreachable(*_arguments: object, **_options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("workloads.data.sources.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("POTSTILL_CACHE", str(folder / "cache"))
    why_hub_unreachable.cache_clear()
    before = sorted(folder.iterdir())
    refused = init(folder, **stated)
    why_hub_unreachable.cache_clear()
    assert refused.exit_code == 2, refused.output
    assert message in words(refused)
    assert [path for path in sorted(folder.iterdir()) if path not in before and path.name != "cache"] == []


def test_paths_are_from_where_the_command_is_typed_and_written_from_where_the_file_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "experiments").mkdir()
    monkeypatch.chdir(folder)
    done = init(folder, "--out", "experiments/e.yaml")
    assert done.exit_code == 0, done.output
    spec = yaml.safe_load((folder / "experiments" / "e.yaml").read_text())["spec"]
    assert spec["data"]["mine"]["uri"] == "../data.jsonl"
    assert spec["evaluation"]["benchmarks"][0]["uri"] == "../bench.jsonl"


def test_an_existing_file_is_not_overwritten(folder: Path) -> None:
    assert init(folder).exit_code == 0
    (folder / "e.yaml").write_text("mine")
    refused = init(folder)
    assert (refused.exit_code, "exists already" in words(refused)) == (2, True)
    assert (folder / "e.yaml").read_text() == "mine"
    assert init(folder, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nothing.jsonl"}, "nothing.jsonl does not exist"),
        ({"base": "nothing"}, "is neither a directory here nor a name of a hub model"),
        ({"benchmark": "aime"}, "is not built in (math-500, mbpp-plus, gsm8k, humaneval-plus)"),
        ({"grader": "maths"}, "maths is not one of math, code, exact, choice"),
        ({"benchmark": ""}, "is required without a terminal"),
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
@pytest.mark.long
def test_it_runs_to_a_report(folder: Path) -> None:
    assert init(folder).exit_code == 0
    done = CliRunner().invoke(app, ["run", str(folder / "e.yaml"), "--store", str(folder / "store")])
    assert done.exit_code == 0, done.output
    assert "Last checkpoints" in done.output
    assert list((folder / "store").rglob("report/index.html"))
