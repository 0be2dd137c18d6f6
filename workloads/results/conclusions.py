"""The conclusions of a report: comparisons of runs, each run's end against the base, findings. One error of 5% over
all. Pure.

The error is divided beforehand (`multiplicity`): 35% for the best run (accuracy of the last checkpoints), 35% for the
ends against the base at every budget of the first table, 20% for the findings, 10% for everything else (completion of
the last checkpoints, the best checkpoints, earlier checkpoints).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import comb
from typing import Literal, TypeVar

from workloads.api.manifest import Manifest
from workloads.results.base_comparison import BaseContrast, RowComparison, RunEnd, row_comparisons, run_ends
from workloads.results.best_run import BestRun, best_run
from workloads.results.caveats import caveats
from workloads.results.findings import Finding, judged_findings, tested_contrasts, unjudged_findings
from workloads.results.run_comparison import ALPHA, RunContrast, RunTable, compare_runs
from workloads.results.scores import series_of
from workloads.results.stats.multiplicity import Comparison, adjust

AnyContrast = TypeVar("AnyContrast", RunContrast, BaseContrast)
Group = Literal["best run", "ends", "findings", "other"]
WEIGHTS: dict[Group, float] = {"best run": 0.35, "ends": 0.35, "findings": 0.2, "other": 0.1}


@dataclass(frozen=True)
class Conclusions:
    """`caveats`: sentences that belong to the sentence on the best run.

    `rows`: rows of the tables with the base, by model id, benchmark and budget. `comparisons`: the number of p values;
    those that could not be significant get no share of the error.
    """

    best: BestRun
    caveats: tuple[str, ...]
    runs: RunTable
    ends: tuple[RunEnd, ...]
    rows: Mapping[tuple[str, str, int], RowComparison]
    findings: tuple[Finding, ...]
    comparisons: int


def conclusions(manifest: Manifest) -> Conclusions:
    """Returns all differences of the report, with `adjusted_p` and `interval` set."""
    runs, ends, made = compare_runs(manifest), run_ends(manifest), unjudged_findings(series_of(manifest))
    extra = max(0, runs.pairs_in_all - len(runs.pairs)) * len(runs.benchmarks) * len(runs.budgets)
    at_end = {(end.model, cell.benchmark, cell.budget_tokens): cell for end in ends for cell in end.cells}
    earlier = {key: row for key, row in row_comparisons(manifest).items() if key not in at_end}
    asked = [
        *_of_runs(runs),
        *_of_ends(ends),
        *_of_rows(earlier.values()),
        *_of_findings(made),
    ]
    unknown: list[Comparison[Group]] = [Comparison("best run", 1.0)] * extra
    adjusted = iter(adjust([item for item in asked if item is not None] + unknown, WEIGHTS, ALPHA))
    found = iter([None if item is None else next(adjusted) for item in asked])

    def with_adjusted(contrast: AnyContrast) -> AnyContrast:
        own = next(found)
        if own is None or contrast.difference is None:
            return contrast
        interval = contrast.difference.interval_at(own.level / contrast.choices, significant=own.p < ALPHA)
        return replace(contrast, adjusted_p=own.p, interval=interval)

    runs = _map_runs(runs, with_adjusted)
    ends = tuple(_map_end(end, with_adjusted) for end in ends)
    shown = (cell for end in ends for cell in end.cells if cell.shown)
    rows = {
        (cell.accuracy.model, cell.benchmark, cell.budget_tokens): RowComparison(
            cell.base, cell.accuracy, cell.completed
        )
        for cell in shown
    }
    for key, row in earlier.items():
        rows[key] = RowComparison(row.base, with_adjusted(row.accuracy), with_adjusted(row.completed))
    judged = judged_findings(made, [own.p for own in found if own is not None])
    best = best_run(runs, ends)
    return Conclusions(
        best=best,
        caveats=caveats(manifest, ends, best.by_budget),
        runs=runs,
        ends=ends,
        rows=rows,
        findings=judged,
        comparisons=sum(item is not None for item in asked),
    )


def planned_levels(runs: int, benchmarks: int, budgets: int) -> dict[Group, float]:
    """Returns the level of a comparison in the groups "best run" and "ends", before data are seen and any is rejected.

    `runs`: runs and candidates. Holm's procedure and untestable comparisons only raise the level.
    """
    counts: dict[Group, int] = {
        "best run": comb(runs, 2) * benchmarks * budgets,
        "ends": 2 * runs * benchmarks * budgets,
    }
    total = sum(share for group, share in WEIGHTS.items() if counts.get(group, 1))
    return {group: ALPHA * WEIGHTS[group] / total / count for group, count in counts.items() if count}


def _comparison(group: Group, contrast: RunContrast | BaseContrast) -> Comparison[Group] | None:
    """Returns None if there is no p."""
    if contrast.difference is None or contrast.p is None:
        return None
    return Comparison(group, contrast.p, min(1.0, contrast.difference.least_p * contrast.choices))


def _of_runs(runs: RunTable) -> Iterator[Comparison[Group] | None]:
    for pair in runs.pairs:
        for contrast in pair.contrasts:
            first = (contrast.which, contrast.metric) == ("last", "accuracy")
            yield _comparison("best run" if first else "other", contrast)


def _map_runs(runs: RunTable, change: Callable[[RunContrast], RunContrast]) -> RunTable:
    pairs = tuple(replace(pair, contrasts=tuple(map(change, pair.contrasts))) for pair in runs.pairs)
    return replace(runs, pairs=pairs)


def _of_ends(ends: tuple[RunEnd, ...]) -> Iterator[Comparison[Group] | None]:
    for end in ends:
        for cell in end.cells:
            yield from (_comparison("ends", contrast) for contrast in (cell.accuracy, cell.completed))


def _of_rows(rows: Iterable[RowComparison]) -> Iterator[Comparison[Group] | None]:
    for row in rows:
        yield from (_comparison("other", contrast) for contrast in (row.accuracy, row.completed))


def _of_findings(made: tuple[Finding, ...]) -> Iterator[Comparison[Group]]:
    return (Comparison("findings", contrast.p or 0.0, contrast.least_p) for contrast in tested_contrasts(made))


def _map_end(end: RunEnd, change: Callable[[BaseContrast], BaseContrast]) -> RunEnd:
    cells = tuple(replace(cell, accuracy=change(cell.accuracy), completed=change(cell.completed)) for cell in end.cells)
    return replace(end, cells=cells)
