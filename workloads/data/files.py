"""Reads the rows of a data set's files in all formats and compressions: JSONL, a JSON array, CSV, Parquet."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from workloads.words import count_of

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSED = (".gz", ".zst")
"""Suffixes of compressed files."""
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that come with a data set and hold none of its rows."""
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs (or name the file .tsv)", "|": "bars", ",": "commas"}
"""Between the columns of files that are no CSV with commas; of a .tsv file those in place of tabs."""
LONGEST_LINE = 256 * 1024 * 1024
"""Bytes of one line of JSONL, or of one cell of a CSV."""
OTHERS = {
    b"ARROW1": "an Arrow file (datasets.save_to_disk): write Parquet (dataset.to_parquet) or JSONL (dataset.to_json)",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "compressed with bzip2: decompress it, or use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz: decompress it, or use gzip or zstd",
    b"\x93NUMPY": "a NumPy array: write JSONL, CSV or Parquet",
    b"\x80\x04": "a pickle, which is never opened: write JSONL, CSV or Parquet",
    b"\x80\x02": "a pickle, which is never opened: write JSONL, CSV or Parquet",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"SQLite format 3": "an SQLite database: write JSONL, CSV or Parquet",
}


class BadData(Exception):
    """The data cannot be used for training. The message says where the problem is and what to do."""


@dataclass(frozen=True)
class Fault:
    """The problem with one row."""

    message: str


def data_files(path: Path) -> list[Path]:
    """Returns the file itself, or the data files of a directory and its folders, by name.

    Raises BadData if there are none.
    """
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.rglob("*")) if is_data_file(file.relative_to(path)) and file.is_file()]
    if not found:
        raise BadData(f"{path.name} holds no data file: their names end with {', '.join(SUFFIXES)} (.gz, .zst)")
    return found


def is_data_file(path: Path) -> bool:
    """Returns whether it is a data file by its name. Hidden files are not."""
    name = path.name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    hidden = any(part.startswith(".") for part in path.parts)
    return name.endswith(SUFFIXES) and not hidden and name not in DESCRIPTIONS


def read_values(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yields (line, value or Fault) for each row. `line` counts from 1: the line of a text, the row of Parquet and
    arrays.

    From Parquet it reads only those of `columns` that exist. Raises BadData for a file with an unknown format.
    """
    with path.open("rb") as file:
        start = file.read(16)
    for magic, what in OTHERS.items():
        if start.startswith(magic):
            raise BadData(f"{path.name}: this is {what}")
    if start.startswith(b"PAR1"):
        return _parquet(path, columns)
    return _text(path)


def column_names(path: Path) -> list[str]:
    """Returns the columns of a Parquet file; [] for another file."""
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return []
    return list(_open_parquet(path).schema_arrow.names)


def _text(path: Path) -> Iterator[tuple[int, Any]]:
    name = path.name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    try:
        with path.open("rb") as raw, _decompressed(raw) as file:
            start = file.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
            for magic, what in OTHERS.items():
                if start.startswith(magic):
                    raise BadData(f"{path.name}: this is {what}")
            if start.startswith(b"PAR1"):
                raise BadData(f"{path.name}: this is Parquet inside another compression: decompress it")
            if name.endswith((".csv", ".tsv")):
                yield from _csv(path, file, "\t" if name.endswith(".tsv") else ",")
            elif start.startswith(b"["):
                yield from _array(path, file)
            else:
                yield from _jsonl(file)
    except (gzip.BadGzipFile, EOFError, zstandard.ZstdError) as error:
        raise BadData(f"{path.name}: its compression is broken, or the file is cut short: {error}") from error


def _decompressed(file: io.BufferedReader) -> io.BufferedReader:
    start = file.read(4)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    if start == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(reader)
    return file


class _Duplicate(ValueError):
    pass


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Duplicate(f"the key {twice!r} is repeated")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates)


def _decode(line: int, text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except _Duplicate as error:
        return Fault(f"line {line}: {error}")
    except RecursionError:
        return Fault(f"line {line}: not JSON that can be read: it is nested too deep")
    except ValueError as error:
        return Fault(f"line {line}: not JSON: {error}{_hint(line, text)}")


def _hint(line: int, text: str) -> str:
    if line != 1 or text.lstrip()[:1] == "{":
        return ""
    return "; JSONL has one object a line. If this is CSV, its name must end with .csv or .tsv"


def _jsonl(file: io.BufferedReader) -> Iterator[tuple[int, Any]]:
    line = 0
    while data := file.readline(LONGEST_LINE):
        line += 1
        if len(data) == LONGEST_LINE:
            raise BadData(f"line {line} has over {LONGEST_LINE:,} bytes: JSONL has one row a line")
        if not data.strip():
            continue
        try:
            text = data.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield line, Fault(f"line {line}: not UTF-8 at byte {error.start} of the line")
            continue
        yield line, _decode(line, text)


def _array(path: Path, file: io.BufferedReader) -> Iterator[tuple[int, Any]]:
    """Yields the items of a JSON array one after another: memory holds their text, but not all values."""
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"{path.name}: not UTF-8 at byte {error.start}") from error
    position, row = _skip(text, text.index("[") + 1), 0
    while text[position : position + 1] != "]" or row == 0:
        if row == 0 and text[position : position + 1] == "]":
            break
        row += 1
        try:
            value, position = _DECODER.raw_decode(text, position)
        except _Duplicate as error:
            raise BadData(f"{path.name}: row {row} of the JSON array: {error}") from error
        except RecursionError as error:
            raise BadData(f"{path.name}: row {row} of the JSON array is nested too deep") from error
        except ValueError as error:
            raise BadData(f"{path.name}: row {row} of the JSON array is not JSON: {error}") from error
        yield row, value
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            raise BadData(f"{path.name}: after row {row} of the JSON array there is neither a comma nor its end")
    if _skip(text, position + 1) != len(text):
        raise BadData(f"{path.name}: there is something after the end of the JSON array")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _csv(path: Path, file: io.BufferedReader, delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LONGEST_LINE)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        names = list(reader.fieldnames or ())
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadData(f"{path.name}: line 1: column {twice[0]!r} is repeated")
        if len(names) == 1 and (other := next((mark for mark in OTHER_DELIMITERS if mark in names[0]), None)):
            wanted = "tabs" if delimiter == "\t" else "commas"
            raise BadData(f"{path.name}: line 1: columns are separated by {OTHER_DELIMITERS[other]}: use {wanted}")
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                count = len([value for value in row.values() if value is not None])
                count += len(row.get(None) or ()) - (None in row)
                yield (
                    line,
                    Fault(
                        f"line {line}: the row has {count_of(count, 'cell')}, and "
                        f"the header {count_of(len(names), 'column')}"
                    ),
                )
            else:
                yield line, row
    except csv.Error as error:
        raise BadData(f"{path.name}: line {reader.line_num}: not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path.name}: after line {line}: not UTF-8: {error.reason}") from error
    finally:
        text.detach()


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BadData(f"{path.name}: Parquet needs pyarrow: install potstill with the extra local") from None
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadData(f"{path.name}: column {twice[0]!r} is repeated")
        return file
    except (ArrowException, OSError) as error:
        raise BadData(f"{path.name} is not a readable Parquet file: {error}") from error


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    file = _open_parquet(path)
    from pyarrow import ArrowException

    names = [name for name in columns if name in file.schema_arrow.names]
    row = 0
    try:
        for batch in file.iter_batches(batch_size=256, columns=names):
            for value in batch.to_pylist():
                row += 1
                yield row, value
    except (ArrowException, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise BadData(f"{path.name} is not a readable Parquet file: after row {row}: {error}") from error
