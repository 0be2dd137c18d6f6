"""Write the quickstart's data: two training sets by the teachers, two benchmarks of problems that neither they nor the
base's corpus hold.

    python examples/quickstart/make_data.py --out examples/quickstart

The same seed writes the same bytes.
"""

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path

import pipelines
import sums
from corpus import is_held_out, seen_pipeline, seen_sum

SEED = 2026
SUM_LENGTHS = range(3, 8)
PIPELINE_LENGTHS = range(1, 5)
MATH_ROWS = 2600
CODE_ROWS = 800
BENCHMARK_PIPELINE_LENGTHS = range(2, 5)
PROBLEMS_PER_LENGTH = 8
TESTS_PER_PROBLEM = 4

Row = dict[str, object]


def math_rows(seed: int) -> list[Row]:
    rng = random.Random(f"{seed} math")
    problems = (seen_sum(rng, SUM_LENGTHS) for _ in range(MATH_ROWS))
    return [{"prompt": sums.draw_prompt(rng, p), "response": sums.teach(rng, p)} for p in problems]


def code_rows(seed: int) -> list[Row]:
    rng = random.Random(f"{seed} code")
    drawn = (seen_pipeline(rng, PIPELINE_LENGTHS) for _ in range(CODE_ROWS))
    return [{"prompt": p.prompt, "response": pipelines.teach(rng, p)} for p in drawn]


def math_problems(seed: int) -> list[Row]:
    """As many problems of each length, none twice; `level` is the number of terms."""
    rng = random.Random(f"{seed} math benchmark")
    drawn: dict[str, Row] = {}
    for length in SUM_LENGTHS:
        while len(drawn) < PROBLEMS_PER_LENGTH * (length - SUM_LENGTHS.start + 1):
            problem = sums.draw_sum(rng, (length,))
            if is_held_out(problem.expression) and problem.expression not in drawn:
                drawn[problem.expression] = {
                    "id": f"sum-{length}-{len(drawn) % PROBLEMS_PER_LENGTH}",
                    "prompt": sums.draw_prompt(rng, problem),
                    "answer": str(problem.value),
                    "level": length,
                }
    return list(drawn.values())


def code_problems(seed: int) -> list[Row]:
    """As many problems of each length, none twice; `level` is the number of operations."""
    rng = random.Random(f"{seed} code benchmark")
    drawn: dict[str, Row] = {}
    for length in BENCHMARK_PIPELINE_LENGTHS:
        while len(drawn) < PROBLEMS_PER_LENGTH * (length - BENCHMARK_PIPELINE_LENGTHS.start + 1):
            pipeline = pipelines.draw_pipeline(rng, (length,))
            if is_held_out(pipeline.words) and pipeline.words not in drawn:
                inputs = [pipelines.draw_values(rng) for _ in range(TESTS_PER_PROBLEM)]
                drawn[pipeline.words] = {
                    "id": f"list-{length}-{len(drawn) % PROBLEMS_PER_LENGTH}",
                    "prompt": pipeline.prompt,
                    "entry_point": pipeline.name,
                    "tests": [{"args": [xs], "expected": pipeline.run(xs)} for xs in inputs],
                    "solution": pipeline.code,
                    "level": length,
                }
    return list(drawn.values())


def jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    "math.jsonl": math_rows,
    "code.jsonl": code_rows,
    "bench-math.jsonl": math_problems,
    "bench-code.jsonl": code_problems,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--seed", type=int, default=SEED)
    options = arguments.parse_args()
    for name, make in FILES.items():
        (options.out / name).write_text(jsonl(make(options.seed)))


if __name__ == "__main__":
    main()
