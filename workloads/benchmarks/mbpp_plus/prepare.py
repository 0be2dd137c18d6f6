"""Makes mbpp-plus.jsonl.gz and fast.txt from the published file. Run once per version, and commit the result:

    python -m workloads.benchmarks.mbpp_plus.prepare MbppPlus.jsonl.gz

Fields are renamed, inputs are written with their Python types, and expected values are added. Takes about a minute of
two cores.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

from workloads.benchmarks.evalplus import convert
from workloads.benchmarks.load import FAST_PROBLEMS
from workloads.benchmarks.mbpp_plus.arguments import ORACLES, arguments_of
from workloads.benchmarks.mbpp_plus.definition import locate
from workloads.benchmarks.preparation import as_lines, expect, stratified, write

PUBLISHED_MD5 = "ee43ecabebf20deef4bb776a405ac5b1"


def prepare(source: Path) -> tuple[str, list[str]]:
    """Returns (prepared JSONL, ids of the fast subset)."""
    data = gzip.decompress(source.read_bytes())
    expect(source, hashlib.md5(data, usedforsecurity=False).hexdigest(), PUBLISHED_MD5)
    rows = [json.loads(line) for line in data.decode().splitlines()]
    prepared = convert(rows, arguments_of, ORACLES)
    return as_lines(prepared), stratified({(): [row["task_id"] for row in rows]}, FAST_PROBLEMS)


if __name__ == "__main__":
    text, fast = prepare(Path(sys.argv[1]))
    write(locate(), gzip.compress(text.encode(), 9, mtime=0), fast)
