"""The benchmarks that are known by name: a new one is an entry here, or an entry point in `potstill.benchmarks`."""

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
    """Of a name with or without `builtin:`. BenchmarkError says which there are."""
    name = name.removeprefix(BUILTIN_PREFIX)
    if name not in BENCHMARKS:
        raise BenchmarkError(f"no builtin benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_path(name: str) -> Path:
    """The file with the problems, fetched if need be. Raises BenchmarkError."""
    return definition_of(name).path


def domain_of(name: str) -> str | None:
    """What a benchmark of the package asks, in a word; None for another one, whose domain is in its experiment."""
    found = BENCHMARKS.builtin.get(name)
    return found.domain if found is not None and found.is_packaged else None


def frozen_domain(name: str) -> str | None:
    """The domain of a benchmark of the registry that is written into an experiment: of all but `domain_of`'s."""
    return BENCHMARKS[name].domain if domain_of(name) is None else None


def name_of_content(sha256: str) -> str | None:
    """The benchmark of the registry whose file has this SHA-256; None: it is another file, or is not here.

    Nothing is fetched.
    """
    for name in BENCHMARKS:
        try:
            path = BENCHMARKS[name].locate()
        except BenchmarkError:
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return name
    return None
