"""Makes math-500.jsonl and fast.txt from the published file. Run once per version of the data, and commit the result:

    python -m workloads.benchmarks.math_500.prepare math500.jsonl

Fields are renamed; nothing else is changed.
"""

import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from workloads.benchmarks.load import FAST_PROBLEMS
from workloads.benchmarks.math_500.definition import locate
from workloads.benchmarks.preparation import as_lines, expect, stratified, write

PUBLISHED_SHA256 = "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"


def prepare(source: Path) -> tuple[str, list[str]]:
    """Returns (prepared JSONL, ids of the fast subset)."""
    data = source.read_bytes()
    expect(source, hashlib.sha256(data).hexdigest(), PUBLISHED_SHA256)
    rows = [json.loads(line) for line in data.decode().splitlines()]
    prepared = [
        {
            "id": row["unique_id"],
            "prompt": row["problem"],
            "answer": row["answer"],
            "solution": row["solution"],
            "subject": row["subject"],
            "level": row["level"],
        }
        for row in rows
    ]
    strata: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row in prepared:
        strata[row["level"], row["subject"]].append(row["id"])
    return as_lines(prepared), stratified(strata, FAST_PROBLEMS)


if __name__ == "__main__":
    text, fast = prepare(Path(sys.argv[1]))
    write(locate(), text.encode(), fast)
