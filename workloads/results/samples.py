"""Several outputs per problem: mean, pass@k and maj@k, each with an interval by problem. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

from workloads.api.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.results.base_comparison import shared_problems
from workloads.results.stats.bounded_mean import mean_interval
from workloads.results.tables import budgets_of, problem_verdicts
from workloads.words import count_of

COLUMNS = ("model", "scope", "benchmark", "budget", "measure", "k", "value", "low", "high", "problems", "outputs")
"""Columns of `cells`: a table with one line per value."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `problems`, in 0..1, with its 95% interval by problem."""

    value: float
    low: float
    high: float
    problems: int

    def __str__(self) -> str:
        """76.1% (69.6-82.6, 100 problems)"""
        return f"{self.value:.1%} ({self.low * 100:.1f}-{self.high * 100:.1f}, {count_of(self.problems, 'problem')})"


@dataclass(frozen=True)
class SampledRow:
    """One model on one benchmark at one budget. `pass_at`, `majority_at`: by k. The second is empty if answers cannot
    be compared with each other (code) or are not in the manifest.

    `scope`: shared is the base on the problems of all models, if it has more; all is on all of the model's own. `mean`:
    the share of right outputs. Problems with an output that could not be graded are left out of all three.
    """

    model: str
    scope: Literal["all", "shared"]
    benchmark: str
    budget_tokens: int
    outputs_per_problem: int
    mean: Estimate
    pass_at: tuple[tuple[int, Estimate], ...]
    majority_at: tuple[tuple[int, Estimate], ...]


def sampled_rows(manifest: Manifest) -> tuple[SampledRow, ...]:
    """Returns every model at the budgets at which the tables show it; empty with one output per problem."""
    if manifest.sampling.n == 1:
        return ()
    return tuple(
        row
        for benchmark in manifest.benchmarks
        for model in manifest.models
        for budget in budgets_of(manifest, model)
        for row in _rows(manifest, model, benchmark.name, budget)
    )


def cells(row: SampledRow) -> Iterator[tuple[object, ...]]:
    """Yields lines of a table with COLUMNS."""
    figures = [("mean", row.outputs_per_problem, row.mean)]
    figures += [("pass@k", k, estimate) for k, estimate in row.pass_at]
    figures += [("maj@k", k, estimate) for k, estimate in row.majority_at]
    for measure, k, found in figures:
        place = (row.model, row.scope, row.benchmark, row.budget_tokens, measure, k)
        yield (*place, found.value, found.low, found.high, found.problems, row.outputs_per_problem)


def sizes(outputs: int) -> tuple[int, ...]:
    """Returns the values of k that are shown: powers of two up to `outputs`, and `outputs`."""
    return tuple(sorted({2**power for power in range(outputs.bit_length()) if 2**power <= outputs} | {outputs}))


def pass_at(right: int, outputs: int, k: int) -> float:
    """Returns the probability that one of k outputs, drawn without replacement, is right: unbiased (Chen et al.,
    arXiv:2107.03374).
    """
    return 1 - comb(outputs - right, k) / comb(outputs, k)


def majority_at(answers: Sequence[int], right: Sequence[bool], k: int) -> float:
    """Returns the probability that the most frequent answer of k outputs, drawn without replacement, is right; ties are
    drawn.

    `answers`: per output a number for its answer, equal for equal answers, 0 for none. An output without an answer has
    no vote. All right outputs have the same answer.
    """
    votes = [(-1 if ok else answer) for answer, ok in zip(answers, right, strict=True)]
    silent = sum(vote == 0 for vote in votes)
    counts = Counter(vote for vote in votes if vote)
    correct, others = counts.pop(-1, 0), list(counts.values())
    won = 0.0
    for top in range(1, min(correct, k) + 1):
        for (drawn, ties), ways in _ways(others, top, k - top).items():
            won += comb(correct, top) * ways * comb(silent, k - top - drawn) / (1 + ties)
    return won / comb(len(votes), k)


def _ways(others: Sequence[int], top: int, most: int) -> dict[tuple[int, int], int]:
    """Returns by (outputs drawn, answers with exactly `top` votes) the ways to draw from the other answers, none above
    `top`.
    """
    ways = {(0, 0): 1}
    for size in others:
        grown: Counter[tuple[int, int]] = Counter()
        for (drawn, ties), count in ways.items():
            for votes in range(min(size, top, most - drawn) + 1):
                grown[drawn + votes, ties + (votes == top)] += count * comb(size, votes)
        ways = dict(grown)
    return ways


@dataclass(frozen=True)
class _Problem:
    """`codes`, `answers`: one per output; no answers if they are unknown."""

    id: str
    codes: str
    answers: tuple[int, ...]


def _rows(manifest: Manifest, model: ManifestModel, benchmark: str, budget: int) -> Iterator[SampledRow]:
    """Yields nothing while nothing is graded. The base has two rows if it has more problems than the others."""
    parts = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model.id, benchmark)]
    problems = [problem for part in parts for problem in _problems(part, budget) if "e" not in problem.codes]
    if model.kind == "base":
        ids = set(shared_problems(manifest, benchmark, budget))
        shared = [problem for problem in problems if problem.id in ids]
        if 0 < len(shared) < len(problems):
            yield _row(manifest, model, "shared", benchmark, budget, shared)
    if problems:
        yield _row(manifest, model, "all", benchmark, budget, problems)


def _row(
    manifest: Manifest,
    model: ManifestModel,
    scope: Literal["all", "shared"],
    benchmark: str,
    budget: int,
    problems: Sequence[_Problem],
) -> SampledRow:
    outputs = manifest.sampling.n
    right = [[code in "Rr" for code in problem.codes] for problem in problems]
    majority: tuple[tuple[int, Estimate], ...] = ()
    if all(problem.answers for problem in problems):
        voted = list(zip((problem.answers for problem in problems), right, strict=True))
        majority = tuple((k, _estimate([majority_at(a, r, k) for a, r in voted])) for k in sizes(outputs))
    return SampledRow(
        model=model.id,
        scope=scope,
        benchmark=benchmark,
        budget_tokens=budget,
        outputs_per_problem=outputs,
        mean=_estimate([sum(one) / outputs for one in right]),
        pass_at=tuple((k, _estimate([pass_at(sum(one), outputs, k) for one in right])) for k in sizes(outputs)),
        majority_at=majority,
    )


def _problems(evaluation: ManifestEvaluation, budget: int) -> Iterator[_Problem]:
    codes = problem_verdicts(evaluation, budget)
    if codes:
        answers = _answers(evaluation, budget) or [()] * len(codes)
        yield from map(_Problem, evaluation.problems, codes, answers)


def _answers(evaluation: ManifestEvaluation, budget: int) -> list[tuple[int, ...]]:
    """Returns by problem a number per output; empty if answers are unknown."""
    size = evaluation.outputs_per_problem
    for index, item in enumerate(evaluation.budgets):
        if item.counts.budget == budget and evaluation.answers:
            found = evaluation.answers[index]
            return [found[start : start + size] for start in range(0, len(found), size)]
    return []


def _estimate(values: Sequence[float]) -> Estimate:
    low, high = mean_interval(values, 0.0, 1.0, 0.05, single=False)
    return Estimate(sum(values) / len(values), low, high, len(values))
