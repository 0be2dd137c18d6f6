"""Reads the problems' texts of a benchmark file, without the data for grading."""

import gzip
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class BadBenchmark(Exception):
    """The file is not a benchmark, or lacks a requested problem."""


def read_problems(path: Path, wanted: Sequence[str]) -> dict[str, str]:
    """Returns texts by problem id, in the order of `wanted` (empty: all, in file order). JSONL, gzipped if the name
    says so.

    If a row has `choices`, they follow its prompt as lettered lines. Raises BadBenchmark.
    """
    found: dict[str, str] = {}
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise BadBenchmark(f"{path.name} is not JSONL: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                found[str(row["id"])] = _text(row)
            except (ValueError, KeyError, TypeError) as error:
                raise BadBenchmark(f"{path.name}:{number}: every row needs `id` and `prompt`: {error!r}") from error
    missing = [problem for problem in wanted if problem not in found]
    if missing:
        raise BadBenchmark(f"{path.name} has no problem {missing[0]!r} ({len(missing)} of {len(wanted)} are missing)")
    if not found:
        raise BadBenchmark(f"{path.name} holds no problems")
    return {problem: found[problem] for problem in wanted or found}


def _text(row: dict[str, Any]) -> str:
    letters = zip(string.ascii_uppercase, row.get("choices") or (), strict=False)
    return str(row["prompt"]) + "".join(f"\n{letter}. {choice}" for letter, choice in letters)
