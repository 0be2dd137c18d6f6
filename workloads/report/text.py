"""The report as Markdown: summary, comparisons of runs, tables, findings, further tables, failed parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from workloads.api.manifest import Manifest
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import bounds_text
from workloads.report.protocol_table import ProtocolTables
from workloads.report.sampled_tables import recipes_table, samples_table
from workloads.report.summary import summary
from workloads.report.tables_csv import table_csv
from workloads.results.base_comparison import BaseContrast, RowComparison, base_on_shared
from workloads.results.breakdown import breakdowns
from workloads.results.conclusions import Conclusions, conclusions
from workloads.results.findings import Finding
from workloads.results.lengths import length_contrasts
from workloads.results.run_comparison import RunContrast
from workloads.results.stats.difference import p_text
from workloads.results.tables import TableRow, tables
from workloads.untrusted import markdown as escaped

__all__ = ["COLUMNS", "markdown", "name_of", "note_of", "table_csv"]

COLUMNS = ("Model", "Samples", "Budget", "Acc (all)", "Completed", "Acc (completed)", "Acc (strict)", "Note")
TABLE_NOTE = (
    "Each cell: share (k/n, 95% interval in percent). A difference is paired, on the problems that both answered; its "
    "interval is adjusted for everything that this report says, and * marks those that leave out 0."
)
DIFFERENCES = ("Acc (all) - base", "Completed - base")


def markdown(manifest: Manifest, concluded: Conclusions | None = None) -> str:
    """Returns all text and tables of the page. Ends with a newline.

    `concluded`: the manifest's conclusions, if they are known already.
    """
    concluded = concluded or conclusions(manifest)
    parts = [
        [
            f"# {escaped(manifest.experiment)}",
            "",
            f"Base model: {escaped(manifest.base_name)}. State: {manifest.state}.",
        ],
        ["## Summary", "", *(f"- {escaped(sentence)}" for sentence in summary(manifest, concluded))],
        list(_runs(manifest, concluded)),
        *_tables(manifest, concluded),
        list(_findings(concluded.findings)),
        list(_titled(samples_table(manifest))),
        list(_titled(recipes_table(manifest))),
        list(_lengths(manifest)),
        list(_breakdowns(manifest)),
        list(_failed(manifest)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(columns)
    yield _line("---" for _ in columns)
    yield from (_line(map(escaped, row)) for row in rows)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _runs(manifest: Manifest, concluded: Conclusions) -> Iterator[str]:
    """Yields pairs of runs: last checkpoints, and best ones with a correction for the choice.

    Benchmarks on which all models have the same accuracy are left out; the summary has a sentence on each.
    """
    flat = flat_benchmarks(manifest)
    if not concluded.runs.pairs or len(flat) == len(manifest.benchmarks):
        return
    yield from ("## Run against run", "")
    yield (
        "Same problems, one budget, first less second; interval and p are adjusted for everything that this report "
        "says. Best checkpoints were chosen by looking: their interval and p pay for every pair that could have been "
        "chosen too."
    )
    yield ""
    columns = ("Runs", "They differ by", "Checkpoints", "Benchmark", "Budget", "Metric", "Difference", "Adjusted", "")
    yield from _table(
        columns,
        (
            (
                f"{pair.first_label} / {pair.second_label}",
                pair.label,
                f"{contrast.first_model} / {contrast.second_model} ({contrast.which})",
                contrast.benchmark,
                f"{contrast.budget_tokens:,}",
                contrast.metric,
                _points(contrast),
                "-" if contrast.adjusted_p is None else p_text(contrast.adjusted_p),
                _run_verdict(pair.first_label, pair.second_label, contrast),
            )
            for pair in concluded.runs.pairs
            for contrast in pair.contrasts
            if contrast.benchmark not in flat
        ),
    )


def _run_verdict(first: str, second: str, contrast: RunContrast) -> str:
    if contrast.difference is None:
        return f"not compared: {contrast.reason}"
    if contrast.sign:
        return f"{first if contrast.sign > 0 else second} is higher"
    return "equivalent within 5 points" if contrast.equivalent else "not distinguishable"


def _points(contrast: RunContrast | BaseContrast) -> str:
    """Returns text such as -6.0 points (-18.6 to +6.8), n = 100."""
    found = contrast.difference
    if found is None or contrast.interval is None:
        return "-"
    return f"{found.estimate * 100:+.1f} points ({bounds_text(*contrast.interval)}), n = {found.n}"


def _tables(manifest: Manifest, concluded: Conclusions) -> Iterator[list[str]]:
    for table in tables(manifest):
        lines = [f"## {escaped(table.benchmark)}", ""]
        lines += [TABLE_NOTE, ""]
        lines += _table((*COLUMNS[:-1], *DIFFERENCES, COLUMNS[-1]), _rows(manifest, table.rows, concluded.rows))
        yield lines


def _rows(
    manifest: Manifest, rows: Iterable[TableRow], compared: Mapping[tuple[str, str, int], RowComparison]
) -> Iterator[list[str]]:
    """Yields rows. The base is shown on the problems of the other models, and in addition on all of its problems."""
    for row in rows:
        if row.model.kind != "base":
            found = compared[row.model.id, row.benchmark, row.budget_tokens]
            yield _cells(row, name_of(row), _difference(found.accuracy), _difference(found.completed))
            continue
        shared = base_on_shared(manifest, row.benchmark, row.budget_tokens)
        if shared is not None and shared.accuracy.n != row.accuracy.n:
            yield _cells(shared, f"base, the {shared.accuracy.n:,} shared outputs", "", "")
            yield _cells(row, f"base, all {row.accuracy.n:,} outputs", "", "")
        else:
            yield _cells(row, name_of(row), "", "")


def _cells(row: TableRow, name: str, *differences: str) -> list[str]:
    samples = "-" if row.model.samples is None or row.model.kind == "candidate" else f"{row.model.samples:,}"
    shares = (row.accuracy, row.completed, row.accuracy_completed, row.strict)
    return [name, samples, f"{row.budget_tokens:,}", *(str(share) for share in shares), *differences, note_of(row)]


def _difference(contrast: BaseContrast) -> str:
    if contrast.difference is None:
        return contrast.verdict
    return f"{_points(contrast)}{' *' if contrast.significant else ''}"


def name_of(row: TableRow) -> str:
    """Returns the model's id, which commands accept: math_default@25000."""
    return row.model.id


def note_of(row: TableRow) -> str:
    return "; ".join(part for part in (errors_text(row), row.note or "") if part)


def errors_text(row: TableRow) -> str:
    """Returns text such as incomplete: 3 of 100 could not be graded; empty if all could."""
    return f"incomplete: {row.errors} of {row.errors + row.accuracy.n} could not be graded" if row.errors else ""


def _findings(findings: tuple[Finding, ...]) -> Iterator[str]:
    if not findings:
        return
    yield "## Findings"
    for finding in findings:
        yield from ("", f"**{finding.verdict}**: {escaped(finding.claim)}", "")
        for contrast in finding.contrasts:
            yield f"- {contrast.verdict}: {escaped(contrast.question)}: {escaped(contrast.evidence)}"
        yield from (f"- Doubt: {escaped(doubt)}" for doubt in finding.doubts)


def _titled(table: ProtocolTables | None) -> Iterator[str]:
    """Yields a section with the table and its notes; nothing for None."""
    if table is None:
        return
    yield from (f"## {escaped(table.title)}", "")
    yield from (" ".join(map(escaped, table.notes)), "")
    yield from _table(table.columns, table.rows)


def _lengths(manifest: Manifest) -> Iterator[str]:
    made = length_contrasts(manifest)
    if not made:
        return
    yield from ("## Output lengths", "")
    yield (
        "Tokens of the last checkpoints' outputs against the base's, on the same problems (Wilcoxon's signed-rank "
        "test, Holm over these rows). What the largest budget cut counts with the budget."
    )
    yield ""
    columns = ("Model", "Benchmark", "Problems", "Median", "Base", "Longer / shorter", "Cut", "Adjusted", "")
    yield from _table(
        columns,
        (
            (
                c.model,
                c.benchmark,
                f"{c.problems:,}",
                f"{c.median:,.0f}",
                f"{c.base_median:,.0f}",
                f"{c.longer:,} / {c.shorter:,}",
                f"{c.at_limit:,} of {c.outputs:,}",
                "-" if c.adjusted_p is None else p_text(c.adjusted_p),
                c.verdict,
            )
            for c in made
        ),
    )


def _breakdowns(manifest: Manifest) -> Iterator[str]:
    made = breakdowns(manifest)
    for table in made.tables:
        yield from (f"## {escaped(table.benchmark)} by {table.by}", "")
        yield f"Accuracy at {table.budget_tokens:,} tokens, last checkpoints, on the problems that all answered."
        yield ""
        yield from _table(
            ("Model", *table.groups), ((row.model, *(str(share) for share in row.shares)) for row in table.rows)
        )
        yield ""
    yield from (f"- {escaped(reason)}" for reason in made.missing)


def _failed(manifest: Manifest) -> Iterator[str]:
    failed = [(e.id, e.state, e.reason) for e in manifest.evaluations if e.state != "done"]
    failed += [(run.name, run.state, run.reason) for run in manifest.runs if run.state == "failed"]
    if failed:
        yield from ("## Parts without a result", "")
        yield from _table(("Part", "State", "Reason"), ((name, state, reason or "-") for name, state, reason in failed))
