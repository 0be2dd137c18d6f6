"""The report as Markdown and CSV."""

import csv
import io
from collections.abc import Iterable

from workloads.contract.manifest import Manifest
from workloads.results.statistics import Share
from workloads.results.tables import Row, tables
from workloads.untrusted import markdown as escaped

COLUMNS = ("Model", "Samples", "Budget", "Acc (all)", "Completed", "Acc (completed)", "Acc (strict)", "Note")


def markdown(manifest: Manifest) -> str:
    """Both tables with k/n and intervals. Ends with a newline."""
    base = f"Base model: {escaped(manifest.base_name)}. State: {manifest.state}."
    lines = [f"# {escaped(manifest.experiment)}", "", base, ""]
    lines += ["Each cell: share (k/n, Wilson 95% interval in percent).", ""]
    for table in tables(manifest):
        lines += [f"## {escaped(table.benchmark)}", "", _line(COLUMNS), _line("---" for _ in COLUMNS)]
        lines += [_line(_cells(row)) for row in table.rows]
        lines.append("")
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: Row) -> list[str]:
    samples = "-" if row.model.samples is None or row.model.kind == "candidate" else f"{row.model.samples:,}"
    shares = (row.accuracy, row.completed, row.accuracy_completed, row.strict)
    cells = [name_of(row), samples, f"{row.budget_tokens:,}", *(str(share) for share in shares), note_of(row)]
    return [escaped(cell) for cell in cells]


def name_of(row: Row) -> str:
    """Math 4K step 100"""
    return (
        row.model.label
        if row.model.step is None or row.model.kind == "candidate"
        else (f"{row.model.label} step {row.model.step}")
    )


def note_of(row: Row) -> str:
    asked = row.errors + row.accuracy.n
    errors = f"incomplete: {row.errors} of {asked} could not be graded" if row.errors else ""
    return "; ".join(part for part in (errors, row.note or "") if part)


def table_csv(manifest: Manifest) -> str:
    """One row per model, benchmark and budget, with every count: for spreadsheets and other programs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shares = ("accuracy", "completed", "accuracy_completed", "strict")
    writer.writerow(
        ["model", "run", "samples", "step", "benchmark", "budget", "errors"]
        + [f"{share}_{part}" for share in shares for part in ("k", "n", "low", "high")]
    )
    for table in tables(manifest):
        for row in table.rows:
            model = row.model
            figures = [cell for name in shares for cell in _share_cells(getattr(row, name))]
            writer.writerow(
                [model.id, model.run, model.samples, model.step, row.benchmark, row.budget_tokens, row.errors, *figures]
            )
    return out.getvalue()


def _share_cells(share: Share) -> list[object]:
    low, high = share.interval or ("", "")
    return [share.k, share.n, low, high]
