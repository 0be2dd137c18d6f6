"""MATH-500, with answers, solutions, subjects and levels. The fast subset is stratified by level and subject."""

from pathlib import Path

from workloads.benchmarks.base import BenchmarkDefinition

FOLDER = Path(__file__).parent


def locate() -> Path:
    return FOLDER / "math-500.jsonl"


MATH_500 = BenchmarkDefinition(
    name="math-500",
    locate=locate,
    grader="math",
    domain="math",
    licence="MIT",
    source="https://github.com/openai/prm800k, math_splits/test.jsonl",
    fast_file=FOLDER / "fast.txt",
)
