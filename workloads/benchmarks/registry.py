"""Benchmarks by name. A new one is an entry here, or an entry point in `potstill.benchmarks`."""

import hashlib
from pathlib import Path

from workloads.benchmarks.base import BenchmarkDefinition
from workloads.benchmarks.gsm8k.definition import GSM8K
from workloads.benchmarks.humaneval_plus.definition import HUMANEVAL_PLUS
from workloads.benchmarks.math_500.definition import MATH_500
from workloads.benchmarks.mbpp_plus.definition import MBPP_PLUS
from workloads.benchmarks.model import BenchmarkError
from workloads.registry import Registry
from workloads.storage.content_digest import BUILTIN_PREFIX

BENCHMARKS = Registry[BenchmarkDefinition](
    "benchmark",
    "potstill.benchmarks",
    BenchmarkDefinition,
    {one.name: one for one in (MATH_500, MBPP_PLUS, GSM8K, HUMANEVAL_PLUS)},
)


def definition_of(name: str) -> BenchmarkDefinition:
    """Returns the definition for a name with or without `builtin:`.

    Raises BenchmarkError, which lists the known names.
    """
    name = name.removeprefix(BUILTIN_PREFIX)
    if name not in BENCHMARKS:
        raise BenchmarkError(f"no builtin benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_path(name: str) -> Path:
    """Returns the file with the problems; downloads it if necessary. Raises BenchmarkError."""
    return definition_of(name).path


def domain_of(name: str) -> str | None:
    """Returns the subject of a benchmark in the package, in one word; None for another one, whose domain is in its
    experiment.
    """
    found = BENCHMARKS.builtin.get(name)
    return found.domain if found is not None and found.is_packaged else None


def frozen_domain(name: str) -> str | None:
    """Returns the domain that is written into an experiment: for all benchmarks of the registry but those of
    `domain_of`.
    """
    return BENCHMARKS[name].domain if domain_of(name) is None else None


def name_of_content(sha256: str) -> str | None:
    """Returns the benchmark of the registry whose file has this SHA-256; None if it is another file, or is not here.

    Downloads nothing.
    """
    for name in BENCHMARKS:
        try:
            path = BENCHMARKS[name].locate()
        except BenchmarkError:
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return name
    return None
