"""The report's summary: the experiment, the best run, the end of each run against the base, and missing results.

Every stated difference is adjusted for all of them (`results.conclusions`).
"""

from collections.abc import Iterable

from workloads.api.counts import EvaluationCounts, evaluation_counts
from workloads.api.manifest import Manifest, ManifestEvaluation
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import bounds_text
from workloads.report.sampled_tables import recipe_sentences
from workloads.results.base_comparison import BaseContrast, EndCell, RunEnd
from workloads.results.conclusions import Conclusions, conclusions
from workloads.results.stats.difference import p_text
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, row_of
from workloads.words import count_of

MOST_CAUSES = 3


def summary(manifest: Manifest, concluded: Conclusions | None = None) -> list[str]:
    """Returns sentences: the experiment, missing results, the best run, and the end of each run and recipe.

    Comparisons are on the same problems at the budget at which the tables show the run. `concluded`: the manifest's
    conclusions, if they are known already.
    """
    concluded = concluded or conclusions(manifest)
    return [
        _asked(manifest),
        *_missing(manifest),
        concluded.best.sentence,
        *concluded.caveats,
        *_ends(manifest, concluded),
        *flat_benchmarks(manifest).values(),
        *recipe_sentences(manifest),
        _adjustment(concluded),
    ]


def _adjustment(concluded: Conclusions) -> str:
    return (
        f"Verdicts and intervals of differences are adjusted for the {concluded.comparisons:,} comparisons of this "
        "report, at 5% for all of them together: an interval leaves out 0 where the difference is significant."
    )


def _asked(manifest: Manifest) -> str:
    candidates = sum(model.kind == "candidate" for model in manifest.models)
    counts = counts_of(manifest)
    counted = [
        count_of(sum(run.role == "run" for run in manifest.runs), "run"),
        count_of(sum(model.kind == "checkpoint" for model in manifest.models), "checkpoint"),
        *([count_of(candidates, "candidate")] if candidates else []),
    ]
    return (
        f"{', '.join(counted)} and the base model ({manifest.base_name}) on "
        f"{count_of(len(manifest.benchmarks), 'benchmark')}: "
        f"{counts.graded:,} of {count_of(counts.asked, 'evaluation')} are graded."
    )


def counts_of(manifest: Manifest) -> EvaluationCounts:
    """Returns counts in which one model on one benchmark is one evaluation."""
    return evaluation_counts((e.model, e.benchmark, e.state) for e in manifest.evaluations)


def _missing(manifest: Manifest) -> Iterable[str]:
    for run in manifest.runs:
        if run.state == "failed":
            yield f"{run.label} failed: {run.reason or 'no reason is recorded'}."
    failed = [e for e in manifest.evaluations if e.state == "failed"]
    if failed:
        yield f"{count_of(counts_of(manifest).failed, 'evaluation')} failed: {_causes(failed)}."
    incomplete = {(e.model, e.benchmark) for e in manifest.evaluations if any("e" in at.verdicts for at in e.budgets)}
    if incomplete:
        yield (
            f"{count_of(len(incomplete), 'evaluation')} could not be graded in full: the figures are of the outputs "
            "that were graded, and not the accuracy of the whole; the tables' notes say how many are missing."
        )


def _causes(failed: list[ManifestEvaluation]) -> str:
    """Returns the common causes first, each with the number of failed evaluations and the id of one failed part."""
    by_reason: dict[str, dict[tuple[str, str], str]] = {}
    for part in failed:
        first_ids = by_reason.setdefault(part.reason or "no reason is recorded", {})
        first_ids.setdefault((part.model, part.benchmark), part.id)
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = [
        f"{reason} ({next(iter(ids.values()))}{f' and {len(ids) - 1:,} more' if len(ids) > 1 else ''})"
        for reason, ids in ranked[:MOST_CAUSES]
    ]
    if len(ranked) > MOST_CAUSES:
        lines.append(f"{count_of(len(ranked) - MOST_CAUSES, 'other cause')}; see the tables' notes")
    return "; ".join(lines)


def _ends(manifest: Manifest, concluded: Conclusions) -> Iterable[str]:
    """Yields by benchmark and budget: the base, then the last checkpoint of each run that is shown at that budget.

    Benchmarks on which all models have the same accuracy are left out.
    """
    base = next(model for model in manifest.models if model.kind == "base")
    flat = flat_benchmarks(manifest)
    for benchmark in (item.name for item in manifest.benchmarks if item.name not in flat):
        for budget in manifest.budgets:
            shown = [
                (end, cell)
                for end in concluded.ends
                for cell in end.cells
                if cell.shown and (cell.benchmark, cell.budget_tokens) == (benchmark, budget)
            ]
            if shown:
                row = row_of(manifest, base, benchmark, budget)
                lines = [_base(row, [cell for _, cell in shown]), *(_end(end, cell) for end, cell in shown)]
                yield f"{benchmark} at {budget:,} tokens: {' '.join(lines)}"


def _base(row: TableRow | None, cells: list[EndCell]) -> str:
    """Returns text such as: 87.0% right on the 100 problems of the runs (79.2% on all 500): differences are on shared
    ones.
    """
    if row is None or not row.accuracy.n:
        return f"the base has no result{f' ({row.note})' if row is not None and row.note else ''}."
    shared = {(cell.base.accuracy.k, cell.base.accuracy.n, _problems(cell.base)) for cell in cells if cell.base}
    note = f" ({row.note})" if row.note else ""
    if not shared or {n for _, n, _ in shared} == {row.accuracy.n}:
        return f"the base gets {_percent(row.accuracy)} right{note}."
    parts = ", ".join(
        f"{_percent(Share(k, n))} right on the {problems:,} problems" for k, n, problems in sorted(shared)
    )
    return f"the base gets {parts} that runs were asked ({_percent(row.accuracy)} on all {_problems(row):,}){note}."


def _problems(row: TableRow) -> int:
    """Returns the number of graded problems: with one output a problem, its outputs."""
    return row.accuracy.n if row.accuracy.problems is None else row.accuracy.problems


def _end(end: RunEnd, cell: EndCell) -> str:
    """Returns text such as: Math 4K at math_default@25000: 67.0% right (-13.0 points, -25.5 to -0.2, ...), ..."""
    name = end.label if end.label == end.model else f"{end.label} at {end.model}"
    if cell.row is None or cell.accuracy.difference is None:
        if cell.row is None and cell.accuracy.reason == "it is not asked":
            return f"{name} is not asked."
        return f"{name}: no result ({cell.accuracy.reason})."
    accuracy, completed = cell.accuracy, cell.completed
    shares = (
        f"{name}: {_percent(cell.row.accuracy)} right ({_change(accuracy)}), "
        f"{_percent(cell.row.completed)} completed ({_change(completed)})"
    )
    left_out = f"; {count_of(accuracy.left_out, 'problem')} left out, not graded" if accuracy.left_out else ""
    return f"{shares}{left_out}."


def _change(contrast: BaseContrast) -> str:
    """Returns text such as +35.0 points, +16.0 to +52.1, adjusted p = 0.002; or: +5.0 points, -9.0 to +19.1, not
    distinguishable ...
    """
    found = contrast.difference
    if found is None or contrast.interval is None or contrast.adjusted_p is None:
        return contrast.verdict
    points = f"{found.estimate * 100:+.1f} points, {bounds_text(*contrast.interval)}"
    if contrast.significant:
        return f"{points}, adjusted {p_text(contrast.adjusted_p)}"
    return f"{points}, {contrast.verdict}"


def _percent(share: Share) -> str:
    return "-" if share.value is None else f"{share.value:.1%}"
