"""The benchmarks that are known by name: a new one is an entry here, or an entry point in `potstill.benchmarks`."""

import hashlib
from pathlib import Path

from workloads.benchmarks.base import BenchmarkDefinition
from workloads.benchmarks.math_500.definition import MATH_500
from workloads.benchmarks.mbpp_plus.definition import MBPP_PLUS
from workloads.benchmarks.model import BenchmarkError
from workloads.registry import Registry

PREFIX = "builtin:"
"""Before the name of a benchmark of the registry, in the location of its file."""

BENCHMARKS = Registry[BenchmarkDefinition](
    "benchmark", "potstill.benchmarks", BenchmarkDefinition, {one.name: one for one in (MATH_500, MBPP_PLUS)}
)


def definition_of(name: str) -> BenchmarkDefinition:
    """Of a name with or without `builtin:`. BenchmarkError says which there are."""
    name = name.removeprefix(PREFIX)
    if name not in BENCHMARKS:
        raise BenchmarkError(f"no builtin benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_path(name: str) -> Path:
    """The file with the problems, as `BenchmarkDefinition.locate`."""
    return definition_of(name).path


def domain_of(name: str) -> str | None:
    """What a benchmark of the registry asks, in a word; None for another benchmark."""
    return BENCHMARKS[name].domain if name in BENCHMARKS else None


def name_of_content(sha256: str) -> str | None:
    """The benchmark of the registry whose file has this SHA-256; None: it is another file, or is not here."""
    for name in BENCHMARKS:
        try:
            path = BENCHMARKS[name].path
        except BenchmarkError:
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return name
    return None
