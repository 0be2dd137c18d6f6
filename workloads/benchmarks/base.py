"""The definition of a benchmark in the registry: the location of its problems, its grader, and its licence.

A benchmark has a folder here, or a module in another distribution. Its problems are a file in the format of users'
benchmarks (docs/how-to/own-benchmark.md); in this file `suites` with oracles are allowed too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.benchmarks.model import CompletionRule


@dataclass(frozen=True)
class BenchmarkDefinition:
    """`name`: as experiments state it. `locate`: the file with the problems (.jsonl or .jsonl.gz), on this machine.

    `locate` raises BenchmarkError, which without `fetch` says what to download and where to put it. `grader`: its name.
    `domain`: the subject, in one word. `licence`: an SPDX identifier; `source`: where the data come from. `completion`,
    `completion_pattern` and `base_instruction` replace the grader's. `fast_file`: ids of the fast subset, one a line;
    without it they are chosen by their hashes. `fetch`: for a file outside of the package: like `locate`, but downloads
    the file if necessary.
    """

    name: str
    locate: Callable[[], Path]
    grader: str
    domain: str
    licence: str
    source: str
    completion: CompletionRule | None = None
    completion_pattern: str | None = None
    base_instruction: str | None = None
    fast_file: Path | None = None
    fetch: Callable[[], Path] | None = None

    @property
    def path(self) -> Path:
        """Returns the file with the problems; downloads it if necessary. Raises BenchmarkError."""
        return self.locate() if self.fetch is None else self.fetch()

    @property
    def is_packaged(self) -> bool:
        """Returns whether the file comes with the package."""
        return self.fetch is None

    @property
    def fast(self) -> tuple[str, ...] | None:
        """Returns ids of the fast subset; None if they are chosen by their hashes."""
        return None if self.fast_file is None else tuple(self.fast_file.read_text(encoding="utf-8").split())
