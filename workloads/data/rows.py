"""Rows of a JSONL or Parquet file, checked on the way in: an error names its line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from workloads.api.units import Columns

ERRORS_SHOWN = 5


class BadData(Exception):
    """The data cannot be trained on as asked; the message says where and what to do."""


@dataclass(frozen=True)
class DataRow:
    """`line` counts from 1: the line of a JSONL file, the row of a Parquet file."""

    line: int
    prompt: str
    response: str


def read_rows(path: Path, columns: Columns) -> list[DataRow]:
    """All rows in file order; blank lines of a JSONL file are skipped. Raises BadData with the first faults found."""
    rows: list[DataRow] = []
    faults: list[str] = []
    for line, value in _parquet(path, columns) if _is_parquet(path) else _jsonl(path):
        checked = value if isinstance(value, _Fault) else _check(line, value, columns)
        if isinstance(checked, DataRow):
            rows.append(checked)
        else:
            faults.append(checked.message)
            if len(faults) == ERRORS_SHOWN:
                break
    if faults:
        more = " (reading stopped here)" if len(faults) == ERRORS_SHOWN else ""
        raise BadData(f"{path.name}: " + "; ".join(faults) + more)
    if not rows:
        raise BadData(f"{path.name} holds no rows")
    return rows


@dataclass(frozen=True)
class _Fault:
    message: str


def _check(line: int, value: Any, columns: Columns) -> DataRow | _Fault:
    if not isinstance(value, dict):
        return _Fault(f"line {line}: expected an object with the columns, found {type(value).__name__}")
    for column in (columns.prompt, columns.response):
        if column not in value:
            return _Fault(f"line {line}: no column {column!r}{_nearest(column, value)}")
        if not isinstance(value[column], str):
            return _Fault(f"line {line}: column {column!r} must be text, found {type(value[column]).__name__}")
        if any("\ud800" <= character <= "\udfff" for character in value[column]):
            return _Fault(f"line {line}: column {column!r} holds half a surrogate pair, which is no character")
    return DataRow(line, value[columns.prompt], value[columns.response])


def _nearest(column: str, names: Iterable[str]) -> str:
    known = sorted(map(str, names))
    near = get_close_matches(column, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (the row has {', '.join(known) or 'no columns'})"


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            if not data.strip():
                continue
            try:
                yield line, json.loads(data.decode("utf-8-sig" if line == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield line, _Fault(f"line {line}: not UTF-8 at byte {error.start} of the line")
            except ValueError as error:
                yield line, _Fault(f"line {line}: not JSON: {error}")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet(path: Path, columns: Columns) -> Iterator[tuple[int, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        file = parquet.ParquetFile(path)
        for column in (columns.prompt, columns.response):
            if column not in file.schema_arrow.names:
                raise BadData(f"{path.name}: no column {column!r}{_nearest(column, file.schema_arrow.names)}")
        batches = file.iter_batches(batch_size=1024, columns=[columns.prompt, columns.response])
        values = (value for batch in batches for value in batch.to_pylist())
        yield from enumerate(values, start=1)
    except ArrowException as error:
        raise BadData(f"{path.name} is not a readable Parquet file: {error}") from error


def head(path: Path, columns: Columns, count: int) -> list[DataRow]:
    """The first rows, for a look; the rest of the file is neither read nor checked."""
    pairs = _parquet(path, columns) if _is_parquet(path) else _jsonl(path)
    checked = [
        value if isinstance(value, _Fault) else _check(line, value, columns) for line, value in islice(pairs, count)
    ]
    for row in checked:
        if isinstance(row, _Fault):
            raise BadData(f"{path.name}: {row.message}")
    return [row for row in checked if isinstance(row, DataRow)]
