"""How many math answers are graded per second: MATH-500's golds, written otherwise, and other problems' golds.

    python -m perf.grading.mathematics --out perf/results/grading-math.json [--workers 2]

The rate per CPU second does not depend on what else the machine does; the wall rate does.
"""

import argparse
import json
import resource
import time
from pathlib import Path

from perf.grading.__main__ import machine
from workloads.benchmarks.load import load
from workloads.graders.checking.client import AnswerCheck, CheckFailed, check_all


def answers() -> dict[str, AnswerCheck]:
    """Three per problem: the gold, the gold written in another way, and the next problem's gold."""
    problems = load("math-500").problems
    checks = {}
    for problem, other in zip(problems, [*problems[1:], problems[0]], strict=True):
        gold, wrong = str(problem.answer), str(other.answer)
        rewritten = gold.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "")
        for name, answer in (("gold", gold), ("rewritten", f" {rewritten} "), ("other", wrong)):
            checks[f"{problem.id} {name}"] = AnswerCheck("math", answer, gold)
    return checks


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.grading.mathematics")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    checks = answers()
    facts = machine()
    runs = []
    for part in (dict(list(checks.items())[:4]), checks):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        replies = check_all(part, options.workers).replies
        wall = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append((len(part), wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    (few, start_wall, start_cpu), (many, wall, cpu) = runs
    by_kind = {
        kind: sum(isinstance(r, dict) and r["right"] for key, r in replies.items() if key.endswith(kind))
        for kind in ("gold", "rewritten", "other")
    }
    result = {
        "machine": facts,
        "answers": many,
        "workers": options.workers,
        "right": by_kind,
        "errors": sum(isinstance(r, CheckFailed) for r in replies.values()),
        "start_seconds": {"wall": round(start_wall, 2), "cpu": round(start_cpu, 2)},
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "per_second_of_wall_time_after_start": round((many - few) / (wall - start_wall), 1),
        "per_cpu_second_after_start": round((many - few) / (cpu - start_cpu), 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
