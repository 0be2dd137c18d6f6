"""Where the builtin benchmarks stand."""

from pathlib import Path

from workloads.benchmarks.model import BenchmarkError

DATA = Path(__file__).parent / "data"
BUILTIN = {"math-500": DATA / "math-500.jsonl", "mbpp-plus": DATA / "mbpp-plus.jsonl.gz"}
DOMAINS = {"math-500": "math", "mbpp-plus": "code"}
"""What each asks, in a word: the default of a benchmark's `domain`."""
PREFIX = "builtin:"


def builtin_path(name: str) -> Path:
    """The file of a builtin benchmark, named with or without `builtin:`; BenchmarkError says which exist."""
    name = name.removeprefix(PREFIX)
    if name not in BUILTIN:
        raise BenchmarkError(f"no builtin benchmark {name!r}: there are {', '.join(BUILTIN)}")
    return BUILTIN[name]
