"""Two models on the same problems: pairs of verdicts, problem by problem."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workloads.api.manifest import Manifest

Metric = Literal["accuracy", "completed", "strict"]
Codes = Mapping[str, str]
"""By problem: one code of VERDICT_CODES per output."""

METRICS: Mapping[Metric, str] = {"accuracy": "Rr", "completed": "RWN", "strict": "R"}
"""The verdict codes that count for each metric."""


@dataclass(frozen=True)
class Pairs:
    """For each problem the two shares of outputs that meet the metric, in 0..1: exactly 0 or 1 with one output a
    problem.

    `left_out`: problems of both that are not compared because one side has an error.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    single: bool
    left_out: int

    @property
    def n(self) -> int:
        return len(self.first)

    @property
    def differences(self) -> tuple[float, ...]:
        """The first minus the second, by problem."""
        return tuple(a - b for a, b in zip(self.first, self.second, strict=True))

    @property
    def only_first(self) -> int:
        """The number of problems on which the first is ahead."""
        return sum(d > 0 for d in self.differences)

    @property
    def only_second(self) -> int:
        return sum(d < 0 for d in self.differences)

    @property
    def discordance(self) -> float:
        """How often one output of each differs on the same problem.

        With one output it is the share of differing problems.
        """
        return sum(a + b - 2 * a * b for a, b in zip(self.first, self.second, strict=True)) / self.n

    @property
    def mean_square(self) -> float:
        """Mean squared difference by problem; equals `discordance` with one output per problem.

        For `problems_needed`.
        """
        return sum(d * d for d in self.differences) / self.n


def problem_codes(manifest: Manifest, model: str, benchmark: str, budget_tokens: int) -> dict[str, str]:
    """Returns every graded problem of all parts of the benchmark, including errors."""
    found: dict[str, str] = {}
    for evaluation in manifest.evaluations:
        if (evaluation.model, evaluation.benchmark) != (model, benchmark):
            continue
        size = evaluation.outputs_per_problem
        for item in evaluation.budgets:
            if item.counts.budget == budget_tokens:
                for index, problem in enumerate(evaluation.problems):
                    found[problem] = item.verdicts[index * size : (index + 1) * size]
    return found


def pair(first: Codes, second: Codes, metric: Metric) -> Pairs:
    """Returns the problems of both, in the first's order."""
    shared = [problem for problem in first if problem in second]
    compared = [problem for problem in shared if "e" not in first[problem] + second[problem]]
    return Pairs(
        first=tuple(score(first[problem], metric) for problem in compared),
        second=tuple(score(second[problem], metric) for problem in compared),
        single=all(len(first[problem]) == len(second[problem]) == 1 for problem in compared),
        left_out=len(shared) - len(compared),
    )


def score(codes: str, metric: Metric) -> float:
    return sum(code in METRICS[metric] for code in codes) / len(codes)
