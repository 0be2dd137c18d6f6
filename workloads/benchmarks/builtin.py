"""The built-in benchmarks: a new one is an entry of BUILTIN with its files in data/."""

from dataclasses import dataclass
from pathlib import Path

from workloads.benchmarks.model import BenchmarkError, GraderKind

DATA = Path(__file__).parent / "data"
PREFIX = "builtin:"


@dataclass(frozen=True)
class BuiltinBenchmark:
    """`path`: the JSONL file, with <name>.fast.txt beside it. `domain`: the default of a benchmark's `domain`."""

    path: Path
    grader: GraderKind
    domain: str


BUILTIN: dict[str, BuiltinBenchmark] = {
    "math-500": BuiltinBenchmark(DATA / "math-500.jsonl", "math", "math"),
    "mbpp-plus": BuiltinBenchmark(DATA / "mbpp-plus.jsonl.gz", "code", "code"),
}


def builtin_domain(name: str) -> str | None:
    """What a built-in benchmark asks, in a word; None for a benchmark that is not built in."""
    return BUILTIN[name].domain if name in BUILTIN else None


def builtin_path(name: str) -> Path:
    """The file of a builtin benchmark, named with or without `builtin:`; BenchmarkError says which exist."""
    name = name.removeprefix(PREFIX)
    if name not in BUILTIN:
        raise BenchmarkError(f"no builtin benchmark {name!r}: there are {', '.join(BUILTIN)}")
    return BUILTIN[name].path
