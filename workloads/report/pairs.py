"""Tables that compare runs: last checkpoints, and best checkpoints with a correction for the choice. Pure."""

from dataclasses import dataclass

from workloads.api.manifest import Manifest
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import ShownChange, change
from workloads.results.conclusions import Conclusions
from workloads.results.run_comparison import RunContrast, RunPair, Which
from workloads.results.stats.equivalence import MARGIN
from workloads.results.stats.paired import Metric


@dataclass(frozen=True)
class PairCell:
    """The first value minus the second. `missing`: why they are not compared."""

    heading: str
    change: ShownChange | None
    missing: str


@dataclass(frozen=True)
class PairRow:
    """`first` and `second` are checkpoint ids."""

    first: str
    second: str
    differs: str
    cells: tuple[PairCell, ...]


@dataclass(frozen=True)
class PairGroup:
    budget_tokens: int
    rows: tuple[PairRow, ...]


@dataclass(frozen=True)
class PairTable:
    """`columns`: the headings of the cells."""

    columns: tuple[str, ...]
    groups: tuple[PairGroup, ...]


def pair_table(manifest: Manifest, conclusions: Conclusions, which: Which) -> PairTable | None:
    """Returns None if no two runs are compared.

    Benchmarks on which all models have the same accuracy have no column.
    """
    runs = conclusions.runs
    flat = flat_benchmarks(manifest)
    metrics: tuple[tuple[Metric, str], ...] = (("accuracy", "accuracy"), ("completed", "completion"))
    wanted = [
        (name, metric, f"{name}, {word}")
        for name in runs.benchmarks
        if name not in flat or len(flat) == len(runs.benchmarks)
        for metric, word in (metrics if which == "last" else metrics[:1])
    ]
    groups = [
        PairGroup(budget, tuple(row for pair in runs.pairs if (row := _row(pair, which, budget, wanted)) is not None))
        for budget in runs.budgets
    ]
    shown = tuple(group for group in groups if group.rows)
    return PairTable(tuple(heading for _, _, heading in wanted), shown) if shown else None


def _row(pair: RunPair, which: Which, budget: int, wanted: list[tuple[str, Metric, str]]) -> PairRow | None:
    own = {(c.benchmark, c.metric): c for c in pair.contrasts if c.which == which and c.budget_tokens == budget}
    if not own:
        return None
    any_contrast = next(iter(own.values()))
    cells = tuple(_cell(heading, own.get((name, metric)), pair) for name, metric, heading in wanted)
    return PairRow(any_contrast.first_model, any_contrast.second_model, pair.label, cells)


def _cell(heading: str, contrast: RunContrast | None, pair: RunPair) -> PairCell:
    if contrast is None or contrast.difference is None:
        return PairCell(heading, None, (contrast.reason if contrast else None) or "not compared")
    words = {1: f"{pair.first_label} is higher", -1: f"{pair.second_label} is higher", 0: "not distinguishable"}
    verdict = f"equivalent within {MARGIN * 100:g} points" if contrast.equivalent else words[contrast.sign]
    return PairCell(heading, change(contrast, verdict), "")
