"""Bare execution: the same programs on the same inputs, in two plain processes, nothing watched and nothing compared.

python -m perf.grading.bare SAMPLES.jsonl     (needs nothing but this repository)
"""

import json
import multiprocessing
import sys
from pathlib import Path

from workloads.benchmarks import load
from workloads.values import decode

PROBLEMS = {problem.id: problem for problem in load("mbpp-plus").problems}


def run(sample: dict[str, str]) -> None:
    tests = PROBLEMS[sample["task_id"]].tests
    for suite in tests.suites:
        namespace: dict[str, object] = {}
        exec(compile(sample["solution"], "<sample>", "exec"), namespace)
        function = namespace[tests.entry_point]
        for arguments in suite.arguments:
            function(*decode(arguments))


def cost(sample: dict[str, str]) -> float:
    return sum(sum(suite.reference_seconds) for suite in PROBLEMS[sample["task_id"]].tests.suites)


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=cost, reverse=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for _ in pool.imap_unordered(run, samples):
            pass
