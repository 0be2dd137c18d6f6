"""A loaded benchmark: frozen, and without a reference to its file."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

CompletionRule = Literal["boxed", "fenced", "any", "pattern"]


class BenchmarkError(ValueError):
    """The file is not a benchmark. The message names file, line and what to change."""


@dataclass(frozen=True)
class Suite:
    """Tests of one fresh execution of a candidate: MBPP+ has `base` and `plus`, a user's problem has `tests`.

    `arguments`, `expected`: one typed-JSON text per test (`workloads.typed_json`): the list of positional arguments,
    and the value that must be returned. `reference_seconds`: CPU time of the reference solution per test. `tolerance`
    is evalplus's `atol` (absolute; 0: exact, but 1e-6 from the first test on that expects floats). `oracle` names the
    rule of comparison: `equal`, `truth`, or one of evalplus's per-task rules (`grade.oracles`).
    """

    name: str
    arguments: tuple[str, ...]
    expected: tuple[str, ...]
    reference_seconds: tuple[float, ...]
    tolerance: float = 0.0
    oracle: str = "equal"


@dataclass(frozen=True)
class CodeTests:
    """A candidate must define `entry_point`; each suite runs in a separate process."""

    entry_point: str
    suites: tuple[Suite, ...]


@dataclass(frozen=True)
class Problem:
    """`prompt` is the problem's own text, before any template. `answer` is the gold (math, exact, choice)."""

    id: str
    prompt: str
    answer: str | None = None
    choices: tuple[str, ...] = ()
    tests: CodeTests | None = None
    reference_solution: str | None = None
    subject: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """`sha256`: the hash of the file. It is the benchmark's content in every digest."""

    name: str
    grader: str
    completion: CompletionRule
    completion_pattern: str | None
    sha256: str
    problems: tuple[Problem, ...]
    fast: tuple[str, ...]
    """Ids of the fixed subset, in the file's order."""
    unused_fields: tuple[str, ...] = ()
    """Names of the rows' fields that are ignored, in the file's order."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(problem.id for problem in self.problems)

    def problem(self, problem_id: str) -> Problem:
        """Raises BenchmarkError if the benchmark has no such problem."""
        for problem in self.problems:
            if problem.id == problem_id:
                return problem
        raise BenchmarkError(f"{self.name} has no problem {problem_id!r}")

    def part(self, name: str) -> tuple[str, ...]:
        """Returns problem ids of `fast`, `rest` (all but fast) or `full`."""
        parts = {"fast": self.fast, "full": self.ids, "rest": tuple(i for i in self.ids if i not in set(self.fast))}
        if name not in parts:
            raise BenchmarkError(f"{self.name} has no part {name!r}: it is one of fast, rest, full")
        return parts[name]

    def select(self, problems: tuple[str, ...] = (), limit: int | None = None) -> tuple[str, ...]:
        """Returns an explicit subset: the named ids, or the first `limit` of the file.

        Raises BenchmarkError for an id that does not exist or is named more than once.
        """
        if problems:
            known = set(self.ids)
            repeated = [problem_id for problem_id, count in Counter(problems).items() if count > 1]
            if repeated:
                raise BenchmarkError(f"problem {repeated[0]!r} is listed more than once; list each problem once")
            for problem_id in problems:
                if problem_id not in known:
                    raise BenchmarkError(f"{self.name} has no problem {problem_id!r}; its first is {self.ids[0]!r}")
            return problems
        return self.ids if limit is None else self.ids[:limit]
