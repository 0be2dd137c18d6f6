import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from workloads.api.units import Columns
from workloads.data.files import BadData
from workloads.data.rows import DataRow, read_rows

COLUMNS = Columns(prompt="q", response="a")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_jsonl_rows_carry_the_lines_they_stand_on(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"q": "1", "a": "one", "id": 7}', "", '{"q": "2", "a": "two"}')
    assert read_rows(path, COLUMNS) == [DataRow(1, "1", "one"), DataRow(3, "2", "two")]


def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"q": "1", "a": "one"}')
    assert read_rows(path, COLUMNS) == [DataRow(1, "1", "one")]


def test_parquet_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    parquet.write_table(pyarrow.table({"q": ["1", "2"], "a": ["one", "two"], "other": [1, 2]}), path)
    assert read_rows(path, COLUMNS) == [DataRow(1, "1", "one"), DataRow(2, "2", "two")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object with the columns, found list"),
        ('{"q": "x", "aa": "y"}', "line 2: no column 'a' (did you mean 'aa'?)"),
        ('{"q": "x"}', "line 2: no column 'a' (the row has q)"),
        ('{"q": "x", "a": null}', "line 2: column 'a' must be text, found null"),
        ('{"q": 3, "a": "y"}', "line 2: column 'q' must be text, found int"),
        (json.dumps({"q": "x", "a": "\ud800"}), "line 2: column 'a' holds half a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "d.jsonl", '{"q": "1", "a": "one"}', line)
    with pytest.raises(BadData) as caught:
        read_rows(path, COLUMNS)
    assert message in str(caught.value)
    assert "d.jsonl" in str(caught.value)


def test_bytes_that_are_not_text_are_named_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"q": "1", "a": "one"}\n{"q": "\xff", "a": ""}\n')
    with pytest.raises(BadData, match="line 2: not UTF-8 at byte 7"):
        read_rows(path, COLUMNS)


def test_the_first_faults_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"line 1: .*; line 3: .*"):
        read_rows(write(tmp_path / "d.jsonl", "x", '{"q": "1", "a": "one"}', "[]"), COLUMNS)
    with pytest.raises(BadData, match=r"line 5: .*reading stopped here"):
        read_rows(write(tmp_path / "d.jsonl", *["x"] * 9), COLUMNS)


def test_a_parquet_file_without_the_column_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    parquet.write_table(pyarrow.table({"q": ["1"], "answer": ["one"]}), path)
    with pytest.raises(BadData, match="no column 'a'"):
        read_rows(path, COLUMNS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadData, match="not a readable Parquet file"):
        read_rows(path, COLUMNS)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="holds no rows"):
        read_rows(write(tmp_path / "d.jsonl", "", " "), COLUMNS)
