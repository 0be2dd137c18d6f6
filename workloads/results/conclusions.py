"""What a report concludes: run against run, each run's end against the base, findings. One error of 5% over all. Pure.

The error is shared out beforehand (weighted Holm): 35% of it to the question which run is best (accuracy of the last
checkpoints), 35% to the ends against the base at the budgets at which the tables show them, 20% to the findings, 10% to
everything else (completion of the last checkpoints, the best checkpoints, earlier checkpoints, other budgets).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from workloads.contract.manifest import Manifest
from workloads.results.base_comparison import BaseContrast, RowComparison, RunEnd, row_comparisons, run_ends
from workloads.results.best_run import BestRun, best_run
from workloads.results.figures import series_of
from workloads.results.findings import Finding, judged_findings, p_values, unjudged_findings
from workloads.results.multiplicity import weighted_holm
from workloads.results.run_comparison import RunContrast, RunTable, compare_runs

AnyContrast = TypeVar("AnyContrast", RunContrast, BaseContrast)
Group = Literal["best run", "ends", "findings", "other"]
WEIGHTS: dict[Group, float] = {"best run": 0.35, "ends": 0.35, "findings": 0.2, "other": 0.1}


@dataclass(frozen=True)
class Conclusions:
    """`rows`: rows of the tables beside the base, by model id, benchmark and budget.

    `comparisons`: how many p values were adjusted together.
    """

    best: BestRun
    runs: RunTable
    ends: tuple[RunEnd, ...]
    rows: Mapping[tuple[str, str, int], RowComparison]
    findings: tuple[Finding, ...]
    comparisons: int


def conclusions(manifest: Manifest) -> Conclusions:
    """Everything that the report says of differences, with `adjusted_p` set."""
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
    adjusted = iter(_adjusted(asked, extra))

    def with_adjusted(contrast: AnyContrast) -> AnyContrast:
        found = next(adjusted)
        same = contrast.equivalence_p
        return replace(
            contrast,
            adjusted_p=None if found is None else found.p,
            adjusted_equivalence_p=None if found is None or same is None else min(1.0, same * found.factor),
        )

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
    judged = judged_findings(made, [found.p for found in adjusted if found is not None])
    return Conclusions(best_run(runs, ends), runs, ends, rows, judged, sum(item.p is not None for item in asked))


@dataclass(frozen=True)
class _Asked:
    group: Group
    p: float | None
    testable: bool = True


@dataclass(frozen=True)
class _Adjusted:
    """`factor`: what Bonferroni multiplies a p of this weight by.

    A difference of zero and one of MARGIN or more exclude each other: both tests of a contrast share its weight.
    """

    p: float
    factor: float


def _adjusted(asked: list[_Asked], extra: int) -> list[_Adjusted | None]:
    """By weighted Holm, in the order given; None where there is no p.

    `extra`: pairs of runs of which no p was calculated. They count as p = 1. Where no problem differs, no difference
    can be found: such a comparison has p = 1 and is not counted (Tarone, Biometrics 46 (1990) 515-522).
    """
    known = [item for item in asked if item.p is not None]
    known += [_Asked("best run", 1.0)] * extra
    tested = [item for item in known if item.testable]
    weights = [WEIGHTS[item.group] / sum(other.group == item.group for other in tested) for item in tested]
    holm = iter(weighted_holm([item.p or 0.0 for item in tested], weights))
    total = sum(WEIGHTS[group] for group in {item.group for item in known})
    sizes = {group: sum(item.group == group for item in known) for group in WEIGHTS}
    return [
        None
        if item.p is None
        else _Adjusted(next(holm) if item.testable else 1.0, total * sizes[item.group] / WEIGHTS[item.group])
        for item in asked
    ]


def _of_runs(runs: RunTable) -> Iterator[_Asked]:
    for pair in runs.pairs:
        for contrast in pair.contrasts:
            first = (contrast.which, contrast.metric) == ("last", "accuracy")
            yield _Asked("best run" if first else "other", contrast.p, contrast.testable)


def _map_runs(runs: RunTable, change: Callable[[RunContrast], RunContrast]) -> RunTable:
    pairs = tuple(replace(pair, contrasts=tuple(map(change, pair.contrasts))) for pair in runs.pairs)
    return replace(runs, pairs=pairs)


def _of_ends(ends: tuple[RunEnd, ...]) -> Iterator[_Asked]:
    for end in ends:
        for cell in end.cells:
            group: Group = "ends" if cell.shown else "other"
            yield from (_Asked(group, c.p, c.testable) for c in (cell.accuracy, cell.completed))


def _of_rows(rows: Iterable[RowComparison]) -> Iterator[_Asked]:
    for row in rows:
        yield from (_Asked("other", c.p, c.testable) for c in (row.accuracy, row.completed))


def _of_findings(made: tuple[Finding, ...]) -> Iterator[_Asked]:
    return (_Asked("findings", p) for p in p_values(made))


def _map_end(end: RunEnd, change: Callable[[BaseContrast], BaseContrast]) -> RunEnd:
    cells = tuple(replace(cell, accuracy=change(cell.accuracy), completed=change(cell.completed)) for cell in end.cells)
    return replace(end, cells=cells)
