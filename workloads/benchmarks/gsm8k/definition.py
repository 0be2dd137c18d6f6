"""GSM8K's test split, downloaded from its authors' repository at a fixed commit.

A published row is {"question", "answer"}; the answer ends with a line `#### <number>`. Its rows have no ids: an id here
is the row's number from 0. The fast subset is chosen by the ids' hashes.
"""

import json
import re

from workloads.benchmarks.base import BenchmarkDefinition
from workloads.benchmarks.preparation import as_lines
from workloads.benchmarks.published import PublishedData, hash_mismatch

NAME = "gsm8k"
COMMIT = "3101c7d5072418e28b9008a6636bde82a006892c"
SHA256 = "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"
PROBLEMS = 1319
URL = f"https://raw.githubusercontent.com/openai/grade-school-math/{COMMIT}/grade_school_math/data/test.jsonl"
MARK = "\n#### "
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
CALCULATION = re.compile(r"<<[^<>]*>>")
"""Annotations for a calculator within the solutions."""


def convert(data: bytes) -> bytes:
    """Returns the rows of a benchmark's file from published rows. Raises ValueError, which names the row."""
    rows = []
    for number, line in enumerate(data.decode().splitlines()):
        row = json.loads(line)
        solution, mark, gold = row["answer"].rpartition(MARK)
        gold = gold.strip().replace(",", "")
        if not mark or NUMBER.fullmatch(gold) is None:
            raise ValueError(f"row {number}: its answer does not end with a line #### and a number")
        rows.append(
            {
                "id": f"gsm8k/{number}",
                "prompt": row["question"],
                "answer": gold,
                "solution": CALCULATION.sub("", solution),
            }
        )
    return as_lines(rows).encode()


def check(data: bytes) -> str | None:
    """Returns why `data` is not the published file; None if it is."""
    return hash_mismatch("sha256", SHA256, data)


DATA = PublishedData(benchmark=NAME, url=URL, problems="gsm8k.jsonl", check=check, convert=convert)

GSM8K = BenchmarkDefinition(
    name=NAME,
    locate=DATA.locate,
    fetch=DATA.fetch,
    grader="math",
    domain="math",
    licence="MIT",
    source="https://github.com/openai/grade-school-math, test.jsonl",
)
