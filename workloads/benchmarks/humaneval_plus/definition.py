"""HumanEval+ v0.1.10, downloaded from evalplus's release, in the form that evalplus 0.3.1 reads (data/humaneval.py).

Expected values are computed on the machine that downloads the file: the canonical solutions run in Potstill's sandbox,
which takes minutes. Their CPU seconds set the limits and are part of the file, so two machines make files with
different hashes: machines that share an experiment need the same file (docs/grading.md).
"""

import gzip
import json
import zlib

from workloads.benchmarks.base import BenchmarkDefinition
from workloads.benchmarks.model import BenchmarkError
from workloads.benchmarks.preparation import as_lines
from workloads.benchmarks.published import PublishedData, hash_mismatch

NAME = "humaneval-plus"
MD5 = "fe585eb4df8c88d844eeb463ea4d0302"
"""MD5 of the decompressed file: the result of evalplus's get_human_eval_plus_hash for v0.1.10."""
URL = "https://github.com/evalplus/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz"
ORACLES = {"find_zero": "polynomial root"}
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")


def convert(data: bytes) -> bytes:
    """Returns a benchmark's file from the published one.

    Raises ValueError for a row without its fields, BenchmarkError.
    """
    from workloads.benchmarks.evalplus import ReferenceFailed
    from workloads.benchmarks.evalplus import convert as convert_rows
    from workloads.sandbox.pool import Unsupported

    rows = [json.loads(line) for line in gzip.decompress(data).decode().splitlines() if line.strip()]
    for number, row in enumerate(rows):
        if missing := [field for field in FIELDS if field not in row]:
            raise ValueError(f"row {number} has no {', '.join(missing)}")
    try:
        prepared = convert_rows(rows, lambda _task, inputs: inputs, ORACLES)
    except (ReferenceFailed, Unsupported) as error:
        raise BenchmarkError(f"{NAME}: the expected values cannot be computed here: {error}") from error
    return gzip.compress(as_lines(prepared).encode(), 9, mtime=0)


def check(data: bytes) -> str | None:
    """Returns why `data` is not the published file; None if it is."""
    try:
        return hash_mismatch("md5", MD5, gzip.decompress(data))
    except (OSError, EOFError, zlib.error) as error:
        return f"it is not gzip ({error})"


DATA = PublishedData(benchmark=NAME, url=URL, problems="humaneval-plus.jsonl.gz", check=check, convert=convert)

HUMANEVAL_PLUS = BenchmarkDefinition(
    name=NAME,
    locate=DATA.locate,
    fetch=DATA.fetch,
    grader="code",
    domain="code",
    licence="Apache-2.0",
    source="https://github.com/evalplus/humanevalplus_release, v0.1.10; problems of openai/human-eval (MIT)",
)
