"""The report's first words: what was asked, what came out at each run's end, and what is missing."""

from collections.abc import Iterable

from workloads.contract.counts import EvaluationCounts, evaluation_counts
from workloads.contract.manifest import Manifest
from workloads.results.difference import Difference
from workloads.results.figures import Figure, Series, difference, series_of
from workloads.results.paired import Metric

ALPHA = 0.05
METRICS: tuple[Metric, ...] = ("accuracy", "completed")
WORDS = {"accuracy": "right", "completed": "completed"}


def summary(manifest: Manifest) -> list[str]:
    """Sentences for people. Every comparison is with the base, on the same problems at the run's own budget."""
    series = series_of(manifest)
    budgets = sorted({figure.budget_tokens for run in series for figure in run.base.values()})
    ends = [
        sentence
        for benchmark in manifest.benchmarks
        for budget in budgets
        if (sentence := _ends(series, benchmark.name, budget)) is not None
    ]
    return [_asked(manifest), *_missing(manifest), *ends]


def _asked(manifest: Manifest) -> str:
    candidates = sum(model.kind == "candidate" for model in manifest.models)
    counts = counts_of(manifest)
    counted = [
        _count(sum(run.role == "run" for run in manifest.runs), "run"),
        _count(sum(model.kind == "checkpoint" for model in manifest.models), "checkpoint"),
        *([_count(candidates, "candidate")] if candidates else []),
    ]
    return (
        f"{', '.join(counted)} and the base model ({manifest.base_name}) on "
        f"{_count(len(manifest.benchmarks), 'benchmark')}: "
        f"{counts.graded} of {counts.asked} evaluations are graded."
    )


def counts_of(manifest: Manifest) -> EvaluationCounts:
    return evaluation_counts((e.model, e.benchmark, e.state) for e in manifest.evaluations)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _missing(manifest: Manifest) -> Iterable[str]:
    for run in manifest.runs:
        if run.state == "failed":
            yield f"{run.label} failed: {run.reason or 'no reason is recorded'}."
    if failed := counts_of(manifest).failed:
        yield f"{_count(failed, 'evaluation')} failed; the tables' notes say which and why."
    incomplete = [e for e in manifest.evaluations if any("e" in at.verdicts for at in e.budgets)]
    if incomplete:
        yield (
            f"{_count(len(incomplete), 'evaluation')} could not be graded in full: the figures are of the outputs that "
            "were graded, and not the accuracy of the whole; the tables' notes say how many are missing."
        )


def _ends(series: tuple[Series, ...], benchmark: str, budget_tokens: int) -> str | None:
    """One benchmark at one budget: the base, then the last checkpoint of each run that is shown at that budget."""
    ended = [
        (run, run.figures[benchmark][-1], run.base[benchmark])
        for run in series
        if run.figures.get(benchmark) and benchmark in run.base and run.base[benchmark].budget_tokens == budget_tokens
    ]
    if not ended:
        return None
    base = ended[0][2]
    changes = [
        (run.label, metric, found)
        for run, last, _ in ended
        for metric in METRICS
        if (found := difference(last, base, metric)) is not None
    ]
    said = f"{benchmark} at {budget_tokens:,} tokens: the base gets {_base(base, changes)}."
    if not changes:
        return f"{said} No run was asked the same problems."
    if all(found.p >= ALPHA for _, _, found in changes):
        return f"{said} No run's end can be told from it with {min(f.n for _, _, f in changes)} problems."
    return " ".join([said, *(_end(run, [c for c in changes if c[0] == run.label]) for run, _, _ in ended)])


def _base(base: Figure, changes: list[tuple[str, Metric, Difference]]) -> str:
    """79.2% right (87.0% on the 100 problems that the runs were asked): differences are on shared problems only."""
    shared = {(found.second, found.n) for _, metric, found in changes if metric == "accuracy"}
    whole = f"{_percent(base.accuracy.value)} right"
    if len(shared) != 1 or (one := next(iter(shared)))[1] == base.accuracy.n:
        return whole
    return f"{whole} ({_percent(one[0])} on the {one[1]:,} problems that the runs were asked)"


def _end(run: Series, changes: list[tuple[str, Metric, Difference]]) -> str:
    parts = [f"{_percent(found.first)} {WORDS[metric]} ({_change(found)})" for _, metric, found in changes]
    return f"{run.label} ends at {' and '.join(parts)}."


def _change(found: Difference) -> str:
    """+35.0 points, +16.0 to +52.1"""
    if found.p >= ALPHA:
        return "no difference told"
    return f"{found.estimate * 100:+.1f} points, {found.low * 100:+.1f} to {found.high * 100:+.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
