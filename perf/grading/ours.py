"""This project's grader on a file of samples, two workers: what `python -m workloads.grade` does with code answers.

python -m perf.grading.ours SAMPLES.jsonl VERDICTS.json
"""

import json
import sys
import time
from pathlib import Path

from workloads.benchmarks.load import load
from workloads.grade.bench import grade_here
from workloads.grade.items import Item

if __name__ == "__main__":
    benchmark = load("mbpp-plus")
    samples = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    started = time.monotonic()
    items = [
        Item(s["task_id"], n, 1, 1, ended=True, failed=False, completed=True, answer=s["solution"], incomplete=None)
        for n, s in enumerate(samples)
    ]
    grades = grade_here(benchmark, items, workers=2).grades
    verdicts = {
        sample["_identifier"]: {"verdict": grade.verdict, "cause": grade.cause, **grade.evidence}
        for sample, grade in zip(samples, grades, strict=True)
    }
    seconds = time.monotonic() - started
    Path(sys.argv[2]).write_text(json.dumps({"wall_seconds": seconds, "verdicts": verdicts}))
