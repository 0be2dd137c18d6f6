"""What a report concludes: run against run, each run's end against the base, findings. One error of 5% over all. Pure.

The error is shared out beforehand (weighted Holm): half to the question which run is best (accuracy of the last
checkpoints), a quarter to the ends against the base, a quarter to everything else that is said.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from workloads.contract.manifest import Manifest
from workloads.results.base_comparison import BaseContrast, RunEnd, run_ends
from workloads.results.best_run import BestRun, best_run
from workloads.results.figures import series_of
from workloads.results.findings import Finding, judged_findings, p_values, unjudged_findings
from workloads.results.multiplicity import weighted_holm
from workloads.results.run_comparison import RunContrast, RunTable, compare_runs

Group = Literal["best run", "ends", "other"]
WEIGHTS: dict[Group, float] = {"best run": 0.5, "ends": 0.25, "other": 0.25}


@dataclass(frozen=True)
class Conclusions:
    """`comparisons`: how many p values were adjusted together."""

    best: BestRun
    runs: RunTable
    ends: tuple[RunEnd, ...]
    findings: tuple[Finding, ...]
    comparisons: int


def conclusions(manifest: Manifest) -> Conclusions:
    """Everything that the report says of differences, with `adjusted_p` set."""
    runs, ends, made = compare_runs(manifest), run_ends(manifest), unjudged_findings(series_of(manifest))
    extra = max(0, runs.pairs_in_all - len(runs.pairs)) * len(runs.benchmarks) * len(runs.budgets)
    asked: list[tuple[Group, float | None]] = [*_of_runs(runs), *_of_ends(ends), *_of_findings(made)]
    adjusted = iter(_adjusted(asked, extra))
    runs = _map_runs(runs, lambda c: replace(c, adjusted_p=next(adjusted)))
    ends = tuple(_map_end(end, lambda c: replace(c, adjusted_p=next(adjusted))) for end in ends)
    judged = judged_findings(made, [p for p in adjusted if p is not None])
    return Conclusions(best_run(runs), runs, ends, judged, sum(p is not None for _, p in asked))


def _adjusted(asked: list[tuple[Group, float | None]], extra: int) -> list[float | None]:
    """By weighted Holm, in the order given; None where there is no p.

    `extra`: pairs of runs of which no p was calculated. They count as p = 1.
    """
    known = [(group, p) for group, p in asked if p is not None] + [("best run", 1.0)] * extra
    sizes = {group: sum(other == group for other, _ in known) for group in WEIGHTS}
    weights = [WEIGHTS[group] / sizes[group] for group, _ in known]
    found = iter(weighted_holm([p for _, p in known], weights))
    return [None if p is None else next(found) for _, p in asked]


def _of_runs(runs: RunTable) -> Iterator[tuple[Group, float | None]]:
    for pair in runs.pairs:
        for contrast in pair.contrasts:
            first = (contrast.which, contrast.metric) == ("last", "accuracy")
            yield "best run" if first else "other", contrast.p


def _map_runs(runs: RunTable, change: Callable[[RunContrast], RunContrast]) -> RunTable:
    pairs = tuple(replace(pair, contrasts=tuple(map(change, pair.contrasts))) for pair in runs.pairs)
    return replace(runs, pairs=pairs)


def _of_ends(ends: tuple[RunEnd, ...]) -> Iterator[tuple[Group, float | None]]:
    for end in ends:
        for cell in end.cells:
            yield "ends", cell.accuracy.p
            yield "ends", cell.completed.p


def _of_findings(made: tuple[Finding, ...]) -> Iterator[tuple[Group, float | None]]:
    return (("other", p) for p in p_values(made))


def _map_end(end: RunEnd, change: Callable[[BaseContrast], BaseContrast]) -> RunEnd:
    cells = tuple(replace(cell, accuracy=change(cell.accuracy), completed=change(cell.completed)) for cell in end.cells)
    return replace(end, cells=cells)
