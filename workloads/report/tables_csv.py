"""The report as CSV: tables with differences, comparisons of runs, findings, several outputs, and recipes."""

import csv
import io
from collections.abc import Iterable, Sequence

from workloads.api.manifest import Manifest
from workloads.results import samples, seeds
from workloads.results.base_comparison import BaseContrast
from workloads.results.conclusions import Conclusions, conclusions
from workloads.results.run_comparison import RunContrast
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, tables

SHARES = ("accuracy", "completed", "accuracy_completed", "strict")
DIFFERENCE = ("difference", "low", "high", "n", "p", "adjusted_p", "adjusted_low", "adjusted_high")
"""`low`, `high`: 95% interval of one comparison alone.

The adjusted ones do not contain 0 if `adjusted_p` is below 5%.
"""


def table_csv(manifest: Manifest, concluded: Conclusions | None = None) -> str:
    """Returns one row per model, benchmark and budget: all counts, what is missing and why, and the paired difference.

    `base_accuracy_k` and similar columns are the base's on the problems of both. `concluded`: the manifest's
    conclusions, if they are known already.
    """
    columns = ["model", "run", "samples", "step", "benchmark", "budget", "errors", "missing_parts", "note"]
    columns += [f"{share}_{part}" for share in SHARES for part in ("k", "n", "low", "high")]
    columns += [f"base_{metric}_{part}" for metric in ("accuracy", "completed") for part in ("k", "n")]
    columns += [f"{metric}_against_base_{part}" for metric in ("accuracy", "completed") for part in DIFFERENCE]
    compared = (concluded or conclusions(manifest)).rows
    rows: list[list[object]] = []
    for row in (row for table in tables(manifest) for row in table.rows):
        model = row.model
        cells: list[object] = [model.id, model.run, model.samples, model.step, row.benchmark, row.budget_tokens]
        cells += [row.errors, row.missing, row.note or ""]
        cells += [cell for name in SHARES for cell in _share_cells(getattr(row, name))]
        found = compared.get((model.id, row.benchmark, row.budget_tokens))
        cells += _base_cells(found.base if found else None)
        contrasts = (found.accuracy, found.completed) if found else (None, None)
        cells += [cell for contrast in contrasts for cell in _difference_cells(contrast)]
        rows.append(cells)
    return _csv(columns, rows)


def runs_csv(concluded: Conclusions) -> str:
    """Returns one row per pair of runs, checkpoints, benchmark, budget and metric."""
    columns = ["first", "second", "differ_by", "which", "first_model", "second_model", "benchmark", "budget", "metric"]
    columns += [*DIFFERENCE, "choices", "significant", "equivalent", "note"]
    rows = [
        [
            *(pair.first, pair.second, pair.label, c.which, c.first_model, c.second_model),
            *(c.benchmark, c.budget_tokens, c.metric, *_difference_cells(c)),
            *(c.choices, c.significant, c.equivalent, c.reason or ""),
        ]
        for pair in concluded.runs.pairs
        for c in pair.contrasts
    ]
    return _csv(columns, rows)


def findings_csv(concluded: Conclusions) -> str:
    """Returns one row per contrast of each finding."""
    columns = ["finding", "claim", "finding_verdict", "question", "verdict", "evidence", "p", "adjusted_p", "needed"]
    rows = [
        [finding.key, finding.claim, finding.verdict, c.question, c.verdict, c.evidence, c.p, c.adjusted_p, c.needed]
        for finding in concluded.findings
        for c in finding.contrasts
    ]
    return _csv(columns, rows)


def samples_csv(manifest: Manifest) -> str:
    """Returns one row per model, benchmark, budget, measure and k; only the header with one output per problem."""
    return _csv(samples.COLUMNS, (line for row in samples.sampled_rows(manifest) for line in samples.cells(row)))


def recipes_csv(manifest: Manifest) -> str:
    """Returns one row per recipe, number of samples, benchmark and metric; only the header if there is no recipe."""
    return _csv(seeds.COLUMNS, map(seeds.cells, seeds.recipe_figures(manifest)))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return out.getvalue()


def _plain(cell: object) -> object:
    """Rounds numbers to ten digits, so that 1 is 1.0.

    Text that a spreadsheet would take for a formula gets a leading '.
    """
    if isinstance(cell, float):
        return float(f"{cell:.10g}")
    if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell:
        return f"'{cell}"
    return cell


def _share_cells(share: Share) -> list[object]:
    low, high = share.interval or ("", "")
    return [share.k, share.n, low, high]


def _base_cells(base: TableRow | None) -> list[object]:
    if base is None:
        return [""] * 4
    return [base.accuracy.k, base.accuracy.n, base.completed.k, base.completed.n]


def _difference_cells(contrast: BaseContrast | RunContrast | None) -> list[object]:
    found = contrast.difference if contrast is not None else None
    if contrast is None or found is None:
        return [""] * len(DIFFERENCE)
    adjusted = contrast.interval or ("", "")
    return [found.estimate, found.low, found.high, found.n, contrast.p, contrast.adjusted_p, *adjusted]
