"""The first screen: the headline, failures, warnings about the data, and a table with a row for each run. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from workloads.api.counts import evaluation_states
from workloads.api.manifest import Manifest, ManifestRun
from workloads.report.failures import STATE_TEXTS, FailureCause, causes
from workloads.report.flat import flat_benchmarks
from workloads.report.headline import headline
from workloads.report.marks import ShownChange, base_change, percent
from workloads.results.base_comparison import EndCell, RunEnd
from workloads.results.conclusions import Conclusions
from workloads.results.run_comparison import compared_budgets
from workloads.results.run_differences import run_differences, value_text
from workloads.results.stats.paired import Metric
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, row_of

METRICS: tuple[Metric, ...] = ("accuracy", "completed")
METRIC_NAMES: dict[Metric, str] = {"accuracy": "Accuracy", "completed": "Completion"}
DATA_WARNINGS = ("MostlyDropped", "EndNotTaught", "ThinkNotClosed", "NothingSupervised", "EndWithin", "DataRepeated")
"""Warnings about the data that explain why a run completes or is right less often; others are in "Data and filter"."""
SAID_BY_ID = ("samples", "checkpointEverySamples")
"""Fields that are not shown: the id of a last checkpoint contains them, or they are not informative."""
FIELDS_CHARACTERS = 44


@dataclass(frozen=True)
class Cell:
    """`value` 85.0%, `counts` 34/40; `missing`: why there is no value. `change`: None if not compared with the base."""

    heading: str
    value: str | None = None
    counts: str = ""
    change: ShownChange | None = None
    missing: str = ""


@dataclass(frozen=True)
class OverviewRow:
    """A run's last checkpoint, or the base (`label` Base).

    `fields`: the run's differences from other runs, or the base's name; only in the first group. `all_fields`: the same
    in full, if `fields` is shortened.
    """

    label: str
    model: str
    fields: str
    cells: tuple[Cell, ...]
    all_fields: str = ""
    is_base: bool = False
    is_best: bool = False


@dataclass(frozen=True)
class OverviewGroup:
    """The rows at one token budget."""

    budget_tokens: int
    rows: tuple[OverviewRow, ...]


@dataclass(frozen=True)
class DataWarning:
    """A warning about the data and the runs that have it."""

    runs: str
    text: str


@dataclass(frozen=True)
class Overview:
    """`benchmarks`: (name, problems compared) of the columns.

    `flat`: sentences on benchmarks without a column (`flat_benchmarks`). `other_warnings`: the number of the trainings'
    warnings that are not in `warnings`.
    """

    headline: str
    causes: tuple[FailureCause, ...]
    warnings: tuple[DataWarning, ...]
    other_warnings: int
    benchmarks: tuple[tuple[str, str], ...]
    groups: tuple[OverviewGroup, ...]
    flat: tuple[str, ...]


def overview(manifest: Manifest, conclusions: Conclusions) -> Overview:
    flat = flat_benchmarks(manifest)
    names = [b.name for b in manifest.benchmarks if b.name not in flat] or [b.name for b in manifest.benchmarks]
    warnings = tuple(_warnings(manifest))
    shown = sum(len(run.warnings) for run in manifest.runs)
    return Overview(
        headline=headline(manifest, conclusions),
        causes=causes(manifest),
        warnings=warnings,
        other_warnings=shown - sum(_is_of_data(w) for run in manifest.runs for w in run.warnings),
        benchmarks=tuple((name, _problems_text(conclusions, name)) for name in names),
        groups=_groups(manifest, conclusions, names),
        flat=tuple(flat.values()),
    )


def _warnings(manifest: Manifest) -> Iterator[DataWarning]:
    """Yields warnings about the data; equal ones of several runs are merged."""
    found: dict[str, list[str]] = {}
    for run in manifest.runs:
        for warning in run.warnings:
            if _is_of_data(warning):
                found.setdefault(warning, []).append(run.label)
    for text, labels in found.items():
        yield DataWarning(", ".join(labels), text)


def _is_of_data(warning: str) -> bool:
    return warning.split(":")[0] in DATA_WARNINGS


def _problems_text(conclusions: Conclusions, benchmark: str) -> str:
    """Returns text such as: 100 problems; empty while nothing is graded."""
    cells = [cell for end in conclusions.ends for cell in end.cells if cell.benchmark == benchmark]
    sizes = sorted({cell.accuracy.difference.n for cell in cells if cell.accuracy.difference is not None})
    return f"{' or '.join(f'{size:,}' for size in sizes)} problems" if sizes else ""


def _groups(manifest: Manifest, conclusions: Conclusions, names: list[str]) -> tuple[OverviewGroup, ...]:
    """Returns one for each compared budget; only the first if there is no result at all."""
    groups = tuple(_group(manifest, conclusions, names, budget) for budget in compared_budgets(manifest))
    has_result = any(cell.value is not None for group in groups for row in group.rows for cell in row.cells)
    return groups if has_result else groups[:1]


def _group(manifest: Manifest, conclusions: Conclusions, names: list[str], budget: int) -> OverviewGroup:
    best = conclusions.best.by_budget.get(budget)
    is_first = budget == compared_budgets(manifest)[0]
    fields = _fields(manifest) if is_first else {}
    ends = {end.run: end for end in conclusions.ends}
    rows = [_base_row(manifest, conclusions.ends, names, budget, manifest.base_name if is_first else "")]
    rows += [
        _run_row(
            manifest, run, ends.get(run.name), names, budget, fields[run.name] if is_first else "", run.name == best
        )
        for run in manifest.runs
    ]
    return OverviewGroup(budget, tuple(rows))


def _base_row(manifest: Manifest, ends: tuple[RunEnd, ...], names: list[str], budget: int, fields: str) -> OverviewRow:
    """Returns the base on the problems that it shares with the last checkpoints; on all of its problems if these differ
    between runs.
    """
    base = next(model for model in manifest.models if model.kind == "base")
    cells: list[Cell] = []
    for name in names:
        shared = {
            (cell.base.accuracy, cell.base.completed)
            for end in ends
            for cell in end.cells
            if (cell.benchmark, cell.budget_tokens) == (name, budget) and cell.base is not None
        }
        row = row_of(manifest, base, name, budget)
        own = (row.accuracy, row.completed) if row is not None else None
        shares = shared.pop() if len(shared) == 1 else own
        for index, metric in enumerate(METRICS):
            heading = f"{name}, {METRIC_NAMES[metric].lower()}"
            share = shares[index] if shares is not None else None
            cells.append(_cell(heading, share, None, _missing(manifest, base.id, name)))
    return OverviewRow("Base", base.id, fields, tuple(cells), is_base=True)


def _run_row(
    manifest: Manifest, run: ManifestRun, end: RunEnd | None, names: list[str], budget: int, fields: str, is_best: bool
) -> OverviewRow:
    cells = []
    for name in names:
        found = _end_cell(end, name, budget)
        missing = _missing(manifest, end.model, name) if end is not None else "no checkpoint yet"
        for metric, contrast in zip(METRICS, (found.accuracy, found.completed) if found else (None, None), strict=True):
            share = _share(found.row, metric) if found is not None and found.row is not None else None
            heading = f"{name}, {METRIC_NAMES[metric].lower()}"
            cells.append(_cell(heading, share, base_change(contrast) if contrast else None, missing))
    shown = _shortened(fields)
    return OverviewRow(
        run.label,
        end.model if end else run.name,
        shown,
        tuple(cells),
        all_fields="" if shown == fields else fields,
        is_best=is_best,
    )


def _end_cell(end: RunEnd | None, benchmark: str, budget: int) -> EndCell | None:
    cells = end.cells if end is not None else ()
    return next((cell for cell in cells if (cell.benchmark, cell.budget_tokens) == (benchmark, budget)), None)


def _share(row: TableRow, metric: Metric) -> Share:
    return row.accuracy if metric == "accuracy" else row.completed


def _cell(heading: str, share: Share | None, change: ShownChange | None, missing: str) -> Cell:
    if share is None or not share.n:
        return Cell(heading, missing=missing)
    return Cell(heading, percent(share.value), f"{share.k:,}/{share.n:,}", change)


def _missing(manifest: Manifest, model: str, benchmark: str) -> str:
    parts = ((e.model, e.benchmark, e.state) for e in manifest.evaluations)
    state = evaluation_states(part for part in parts if part[:2] == (model, benchmark)).get((model, benchmark))
    return "not asked" if state is None else STATE_TEXTS[state]


def _fields(manifest: Manifest) -> dict[str, str]:
    """Returns by run the values of the fields in which the runs differ: learningRate 1e-3, seed 2."""
    first, *others = manifest.runs or (None,)
    if first is None:
        return {}
    differing = {
        run.name: {d.field: d for d in run_differences(manifest, first, run) if d.field not in SAID_BY_ID}
        for run in others
    }
    fields = dict.fromkeys(field for found in differing.values() for field in found)
    stated = {field: value_text(next(f[field].first for f in differing.values() if field in f)) for field in fields}
    texts = {}
    for run in manifest.runs:
        own = {field: value_text(d.second) for field, d in differing.get(run.name, {}).items()}
        values = [f"{field} {own.get(field, stated[field])}" for field in fields]
        texts[run.name] = ", ".join(values)
    return texts


def _shortened(text: str) -> str:
    """Returns as many fields as fit a line, at least one."""
    values = text.split(", ")
    kept = values[:1]
    for value in values[1:]:
        if len(", ".join([*kept, value])) > FIELDS_CHARACTERS:
            return ", ".join([*kept, "..."])
        kept.append(value)
    return ", ".join(kept)
