"""What a benchmark is, as the registry knows it: where its problems are, how they are graded, and under what licence.

A benchmark has a folder of its own here, or a module of another distribution. Its problems are a file in the format of
users' benchmarks (docs/how-to/own-benchmark.md); `suites`, with oracles, are allowed in it too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.benchmarks.model import CompletionRule


@dataclass(frozen=True)
class BenchmarkDefinition:
    """`name`: as experiments state it. `locate`: the file with the problems (.jsonl or .jsonl.gz), on this machine.

    `locate` raises BenchmarkError, which says what to download and where to put it. `grader`: its name. `domain`: what
    is asked, in a word. `licence`: an SPDX identifier; `source`: where the data come from. `completion`,
    `completion_pattern` and `base_instruction` replace the grader's. `fast_file`: ids of the fast subset, one a line;
    without it they are chosen by their hashes. `fetch`: of a file that does not come with the package: as `locate`, and
    brings the file here if need be.
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
        """The file with the problems, fetched if need be. Raises BenchmarkError."""
        return self.locate() if self.fetch is None else self.fetch()

    @property
    def is_packaged(self) -> bool:
        """Whether the file comes with the package."""
        return self.fetch is None

    @property
    def fast(self) -> tuple[str, ...] | None:
        """Ids of the fast subset; None where they are chosen by their hashes."""
        return None if self.fast_file is None else tuple(self.fast_file.read_text(encoding="utf-8").split())
