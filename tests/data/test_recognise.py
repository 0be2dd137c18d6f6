"""The format of a data set is recognised by its columns and their values, or refused with the choices."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from workloads.api.units import Columns
from workloads.data.files import BadData
from workloads.data.recognise import NotRecognised, recognise
from workloads.data.rows import read_rows

TURNS = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]
SHAREGPT = [{"from": "human", "value": "1 + 1"}, {"from": "gpt", "value": "2"}]


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


RECOGNISED = [
    ({"messages": TURNS}, "messages", Columns()),
    ({"conversations": SHAREGPT}, "sharegpt", Columns()),
    ({"conversations": TURNS}, "messages", Columns(messages="conversations")),
    ({"dialogue": SHAREGPT, "id": 1}, "sharegpt", Columns(messages="dialogue")),
    ({"messages": json.dumps(TURNS)}, "messages", Columns()),
    ({"prompt": "1 + 1", "messages": TURNS}, "messages", Columns()),
    ({"messages": TURNS, "system_prompt": "Be brief."}, "messages", Columns(system="system_prompt")),
    ({"instruction": "Add.", "input": "1", "output": "2"}, "alpaca", Columns()),
    ({"instruction": "Add.", "output": "2"}, "alpaca", Columns()),
    ({"instruction": "a", "context": "b", "response": "c"}, "alpaca", Columns(input="context", output="response")),
    ({"instruction": "a", "response": "c"}, "prompt", Columns(prompt="instruction")),
    ({"prompt": "a", "response": "b"}, "prompt", Columns()),
    ({"prompt": "a", "response": "b", "question": "c", "answer": "d"}, "prompt", Columns()),
    ({"Question": "a", "Answer": "b"}, "prompt", Columns(prompt="Question", response="Answer")),
    ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "prompt", Columns(response="completion")),
    (
        {"system_prompt": "s", "question": "a", "response": "b", "id": 3},
        "prompt",
        Columns(prompt="question", system="system_prompt"),
    ),
]


@pytest.mark.parametrize(("row", "format_", "columns"), RECOGNISED)
def test_the_columns_say_the_format_and_the_rows_can_be_read_with_it(
    tmp_path: Path, row: dict[str, Any], format_: str, columns: Columns
) -> None:
    part = recognise(jsonl(tmp_path / "data.jsonl", row, row))
    assert (part.format, part.columns) == (format_, columns)
    assert len(read_rows(part.path, part.columns, part.format)) == 2


def test_every_kind_of_file_is_looked_at_as_the_trainer_reads_it(tmp_path: Path) -> None:
    row = {"messages": TURNS}
    parquet.write_table(Table.from_pylist([row]), tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps([row], indent=1))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["messages"])
        writer.writeheader()
        writer.writerow({"messages": json.dumps(TURNS)})
    folder = tmp_path / "folder"
    folder.mkdir()
    jsonl(folder / "part.jsonl", row)
    for path in sorted(tmp_path.iterdir()):
        assert recognise(path).format == "messages", path.name


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "p", "solution": "s", "messages": TURNS}, "in 2 ways: state the columns to train on, messages or"),
        ({"question": "q", "answer": "a", "solution": "s"}, "question,answer or question,solution"),
        ({"chosen": TURNS, "rejected": TURNS}, "chosen or rejected"),
        ({"text": "hello"}, "has the columns text, and which are the prompt and the response is not known"),
    ],
)
def test_ambiguous_and_unknown_rows_are_refused_with_the_choices(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotRecognised, match=message):
        recognise(jsonl(tmp_path / "data.jsonl", row))


@pytest.mark.parametrize(
    ("stated", "format_", "columns"),
    [
        (["chosen"], "messages", Columns(messages="chosen")),
        (["frage", "antwort"], "prompt", Columns(prompt="frage", response="antwort")),
        (["aufgabe", "zahlen", "antwort"], "alpaca", Columns(instruction="aufgabe", input="zahlen", output="antwort")),
    ],
)
def test_stated_columns_are_taken(tmp_path: Path, stated: list[str], format_: str, columns: Columns) -> None:
    row = {"chosen": TURNS, "rejected": TURNS, "frage": "a", "antwort": "b", "aufgabe": "c", "zahlen": "d"}
    part = recognise(jsonl(tmp_path / "data.jsonl", row), stated)
    assert (part.format, part.columns) == (format_, columns)


@pytest.mark.parametrize(
    ("stated", "message"),
    [(["nothing"], "has no column 'nothing'; it has text"), (["text"], "column 'text' has no conversations")],
)
def test_stated_columns_that_cannot_be_read_are_refused(tmp_path: Path, stated: list[str], message: str) -> None:
    with pytest.raises(NotRecognised, match=message):
        recognise(jsonl(tmp_path / "data.jsonl", {"text": "hello"}), stated)


@pytest.mark.parametrize(
    ("text", "message"), [("", "holds no rows"), ("a,b\n", "line 1: not JSON"), ("[1]", "found int")]
)
def test_a_file_without_rows_says_why(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    with pytest.raises(BadData, match=message):
        recognise(tmp_path / "data.jsonl")
