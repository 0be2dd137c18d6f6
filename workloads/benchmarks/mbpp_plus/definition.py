"""MBPP+ v0.2.0: inputs, canonical solutions, and their return values and CPU seconds."""

from pathlib import Path

from workloads.benchmarks.base import BenchmarkDefinition

FOLDER = Path(__file__).parent


def locate() -> Path:
    return FOLDER / "mbpp-plus.jsonl.gz"


MBPP_PLUS = BenchmarkDefinition(
    name="mbpp-plus",
    locate=locate,
    grader="code",
    domain="code",
    licence="Apache-2.0",
    source="https://github.com/evalplus/mbppplus_release, v0.2.0",
    fast_file=FOLDER / "fast.txt",
)
