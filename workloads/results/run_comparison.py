"""Compares runs: last checkpoints, and best checkpoints with a correction for the choice. Pure.

Every contrast is paired, on the problems of both checkpoints, at one token budget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

from workloads.api.manifest import Manifest, ManifestEvaluation, ManifestModel, ManifestRun
from workloads.results.run_differences import FieldDifference, differences_text, run_differences
from workloads.results.stats.difference import Difference, paired_difference
from workloads.results.stats.equivalence import is_within_margin
from workloads.results.stats.paired import Codes, Metric, pair, problem_codes, score

ALPHA = 0.05
MOST_RUNS = 12
"""With more runs, only the pairs with the leading run are compared; p values are adjusted for all pairs."""

Which = Literal["last", "best"]
LAST_METRICS: tuple[Metric, ...] = ("accuracy", "completed")


@dataclass(frozen=True)
class RunContrast:
    """One metric of two checkpoints on one benchmark. `difference` is first - second, in 0..1; None: see `reason`.

    The difference's own interval has 95% confidence; if `which` is best, over all `choices` pairs of checkpoints that
    could have been chosen (Bonferroni). `p` has the same correction. `adjusted_p` and `interval` are adjusted for all
    comparisons of the report (`conclusions`): the interval does not contain 0 if and only if the difference is
    significant. `left_out`: shared problems with an output that could not be graded.
    """

    first_model: str
    second_model: str
    which: Which
    benchmark: str
    budget_tokens: int
    metric: Metric
    difference: Difference | None = None
    choices: int = 1
    left_out: int = 0
    p: float | None = None
    adjusted_p: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    @property
    def significant(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def sign(self) -> int:
        """1 if the first is significantly ahead, -1 if the second is, 0 if not distinguishable or not compared."""
        if not self.significant or self.difference is None:
            return 0
        return 1 if self.difference.estimate > 0 else -1

    @property
    def equivalent(self) -> bool:
        """Returns whether the two differ by less than MARGIN: the whole adjusted interval does."""
        return is_within_margin(self.interval)


@dataclass(frozen=True)
class RunPair:
    """Names and labels of two runs (or candidates), and the fields in which they differ."""

    first: str
    second: str
    first_label: str
    second_label: str
    differs: tuple[FieldDifference, ...]
    contrasts: tuple[RunContrast, ...]

    @property
    def label(self) -> str:
        """Returns text such as: learningRate 1e-3 / 5e-3."""
        return differences_text(self.differs)


@dataclass(frozen=True)
class Missing:
    """A run that is not compared: its last checkpoint and the reason."""

    run: str
    label: str
    model: str | None
    reason: str


@dataclass(frozen=True)
class RunTable:
    """`runs`: labels by name of all runs that could be compared. `budgets`: tokens, ascending.

    `pairs_in_all`: the number of pairs of runs; `pairs` has fewer if there are more than MOST_RUNS runs.
    """

    runs: Mapping[str, str]
    benchmarks: tuple[str, ...]
    budgets: tuple[int, ...]
    pairs: tuple[RunPair, ...]
    missing: tuple[Missing, ...]
    pairs_in_all: int


@dataclass(frozen=True)
class _Contender:
    """`last`: the last wanted checkpoint; `reason`: why it has no result on any benchmark.

    `whole`: checkpoints with a result on every wanted benchmark, in order of samples.
    """

    run: ManifestRun
    last: ManifestModel
    reason: str | None
    whole: tuple[ManifestModel, ...]


@dataclass
class _Verdicts:
    """Verdicts by problem, read from the manifest once."""

    manifest: Manifest
    found: dict[tuple[str, str, int], dict[str, str]] = field(default_factory=dict)

    def of(self, model: str, benchmark: str, budget: int) -> dict[str, str]:
        key = (model, benchmark, budget)
        if key not in self.found:
            self.found[key] = problem_codes(self.manifest, model, benchmark, budget)
        return self.found[key]


def compare_runs(manifest: Manifest) -> RunTable:
    """Returns every pair of runs and candidates. `adjusted_p` is not set yet."""
    verdicts = _Verdicts(manifest)
    contenders = [made for run in manifest.runs if (made := _contender(manifest, run)) is not None]
    benchmarks = tuple(b.name for b in manifest.benchmarks)
    budgets = compared_budgets(manifest)
    ready = [c for c in contenders if c.reason is None]
    pairs = list(combinations(ready, 2))
    if len(ready) > MOST_RUNS:
        means = _mean_accuracy(verdicts, [c.last for c in ready], benchmarks, budgets[-1])
        leader = ready[means.index(max(means))].run.name
        pairs = [(a, b) for a, b in pairs if leader in (a.run.name, b.run.name)]
    return RunTable(
        runs={c.run.name: c.run.label for c in contenders},
        benchmarks=benchmarks,
        budgets=budgets,
        pairs=tuple(
            RunPair(
                first=a.run.name,
                second=b.run.name,
                first_label=a.run.label,
                second_label=b.run.label,
                differs=run_differences(manifest, a.run, b.run),
                contrasts=tuple(_contrasts(verdicts, a, b, benchmarks, budgets)),
            )
            for a, b in pairs
        ),
        missing=tuple(Missing(c.run.name, c.run.label, c.last.id, c.reason) for c in contenders if c.reason),
        pairs_in_all=len(ready) * (len(ready) - 1) // 2,
    )


def compared_budgets(manifest: Manifest) -> tuple[int, ...]:
    """Returns the budgets at which the tables show a run, and the largest: every output is graded at each of them."""
    shown = {model.budget_tokens for model in manifest.models if model.kind != "base"}
    return tuple(budget for budget in manifest.budgets if budget in shown or budget == manifest.budgets[-1])


def why_missing(manifest: Manifest, model: str, benchmark: str | None = None) -> str | None:
    """Returns why a model lacks a wanted result on some benchmark (or on `benchmark`); None if it lacks none."""
    asked = [e for e in manifest.evaluations if e.model == model and benchmark in (None, e.benchmark)]
    if not asked:
        return "it is not asked"
    missing = [e for e in asked if e.state != "done"]
    return "; ".join(dict.fromkeys(map(_state_text, missing))) or None


def _state_text(evaluation: ManifestEvaluation) -> str:
    """Returns text such as: math-500: failed, BadPrompt."""
    state = "failed" if evaluation.state == "failed" else "not evaluated yet"
    return f"{evaluation.benchmark}: {state}{f', {evaluation.reason}' if evaluation.reason else ''}"


def _contender(manifest: Manifest, run: ManifestRun) -> _Contender | None:
    models = [model for model in manifest.models if model.run == run.name]
    if not models:
        return None
    last = models[-1]
    some = any(why_missing(manifest, last.id, benchmark.name) is None for benchmark in manifest.benchmarks)
    whole = tuple(model for model in models if why_missing(manifest, model.id) is None)
    return _Contender(run, last, None if some else why_missing(manifest, last.id), whole)


def _contrasts(
    verdicts: _Verdicts, first: _Contender, second: _Contender, benchmarks: Sequence[str], budgets: Sequence[int]
) -> Iterator[RunContrast]:
    choices = len(first.whole) * len(second.whole)
    for budget in budgets:
        best = [_best(verdicts, c.whole, benchmarks, budget) for c in (first, second)] if choices > 1 else []
        for benchmark in benchmarks:
            for metric in LAST_METRICS:
                yield _contrast(verdicts, first.last, second.last, "last", benchmark, budget, metric, 1)
            if best:
                yield _contrast(verdicts, best[0], best[1], "best", benchmark, budget, "accuracy", choices)


def _contrast(
    verdicts: _Verdicts,
    first: ManifestModel,
    second: ManifestModel,
    which: Which,
    benchmark: str,
    budget: int,
    metric: Metric,
    choices: int,
) -> RunContrast:
    contrast = RunContrast(first.id, second.id, which, benchmark, budget, metric, choices=choices)
    for model in (first, second):
        if (reason := why_missing(verdicts.manifest, model.id, benchmark)) is not None:
            return replace(contrast, reason=f"{model.id}: {reason}")
    pairs = pair(verdicts.of(first.id, benchmark, budget), verdicts.of(second.id, benchmark, budget), metric)
    if not pairs.n:
        return replace(contrast, reason="they share no graded problem", left_out=pairs.left_out)
    found = paired_difference(pairs, ALPHA / choices)
    return replace(
        contrast,
        difference=found,
        left_out=pairs.left_out,
        p=min(1.0, found.p * choices),
    )


def _best(
    verdicts: _Verdicts, models: Sequence[ManifestModel], benchmarks: Sequence[str], budget: int
) -> ManifestModel:
    """Returns the model with the highest mean accuracy over the benchmarks, on the problems of all `models`; the first
    of equals.
    """
    means = _mean_accuracy(verdicts, models, benchmarks, budget)
    return models[means.index(max(means))]


def _mean_accuracy(
    verdicts: _Verdicts, models: Sequence[ManifestModel], benchmarks: Sequence[str], budget: int
) -> list[float]:
    sums = [0.0] * len(models)
    for benchmark in benchmarks:
        codes = [verdicts.of(model.id, benchmark, budget) for model in models]
        shared = graded_by_all(codes)
        for index, own in enumerate(codes):
            sums[index] += sum(score(own[p], "accuracy") for p in shared) / len(shared) if shared else 0.0
    return [total / len(benchmarks) for total in sums]


def graded_by_all(codes: Sequence[Codes]) -> list[str]:
    """Returns problems that all have, without an error in any, in the first one's order."""
    return [p for p in codes[0] if all(p in own and "e" not in own[p] for own in codes)] if codes else []
