"""Benchmarks: MATH-500 and MBPP+ as package data with their licences, and users' JSONL.

`data/` holds a prepared file per builtin benchmark, the ids of its fast subset, and its licence; `prepare` made them.
"""

from workloads.benchmarks.builtin import BUILTIN, builtin_path
from workloads.benchmarks.load import load, load_file
from workloads.benchmarks.model import Benchmark, BenchmarkError, CodeTests, CompletionRule, GraderKind, Problem, Suite

__all__ = [
    "BUILTIN",
    "Benchmark",
    "BenchmarkError",
    "CodeTests",
    "CompletionRule",
    "GraderKind",
    "Problem",
    "Suite",
    "builtin_path",
    "load",
    "load_file",
]
