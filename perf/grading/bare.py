"""Bare execution: the same programs on the same inputs, on two cores, nothing watched and nothing compared.

    python -m perf.grading.bare SAMPLES.jsonl [--broken]

Two plain processes, each a loop. Broken programs (`--broken`) may never end or break the process they are in: each is
then forked, ends with its first exception, and has this grader's limits of CPU time and memory, kept by the kernel.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from workloads.benchmarks.load import load
from workloads.graders.code.grader import limits_of
from workloads.typed_json import decode

Sample = dict[str, str]


def run(sample: Sample, problems: dict[str, Any], *, broken: bool) -> None:
    tests = problems[sample["task_id"]].tests
    for suite in tests.suites:
        if broken:
            _forked(sample["solution"], tests.entry_point, suite)
        else:
            _run_suite(sample["solution"], tests.entry_point, suite)


def _run_suite(program: str, entry_point: str, suite: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(program, "<sample>", "exec"), namespace)
    for arguments in suite.arguments:
        namespace[entry_point](*decode(arguments))


def _forked(program: str, entry_point: str, suite: Any) -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    limits = limits_of(suite)
    seconds = int(limits.total_cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes,) * 2)
    with contextlib.suppress(BaseException):
        _run_suite(program, entry_point, suite)
    os._exit(0)


def work(samples: Sequence[Sample], problems: dict[str, Any], next_one: "Synchronized[int]", broken: bool) -> None:
    while True:
        with next_one.get_lock():
            number = next_one.value
            next_one.value += 1
        if number >= len(samples):
            return
        run(samples[number], problems, broken=broken)


def main() -> None:
    problems = {problem.id: problem for problem in load("mbpp-plus").problems}

    def seconds(sample: Sample) -> float:
        tests = problems[sample["task_id"]].tests
        assert tests is not None
        return sum(sum(suite.reference_seconds) for suite in tests.suites)

    samples = sorted(map(json.loads, Path(sys.argv[1]).read_text().splitlines()), key=seconds, reverse=True)
    forks = multiprocessing.get_context("fork")
    next_one = forks.Value("i", 0)
    workers = [forks.Process(target=work, args=(samples, problems, next_one, "--broken" in sys.argv)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode or 0 for worker in workers))


if __name__ == "__main__":
    main()
