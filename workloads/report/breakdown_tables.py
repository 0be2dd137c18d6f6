"""Additional tables: accuracy by level, subject and suite of tests, and output lengths. Pure."""

from workloads.api.manifest import Manifest
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import percent
from workloads.report.protocol_table import ProtocolTables
from workloads.results.breakdown import breakdowns
from workloads.results.lengths import length_contrasts
from workloads.results.stats.difference import p_text
from workloads.results.stats.share import Share


def breakdown_tables(manifest: Manifest) -> tuple[ProtocolTables, ...]:
    """Leaves out benchmarks on which all models have the same accuracy (`flat_benchmarks`)."""
    flat = flat_benchmarks(manifest)
    return tuple(
        ProtocolTables(
            f"{table.benchmark} by {table.by}",
            ("Model", *table.groups),
            tuple((row.model, *map(_share, row.shares)) for row in table.rows),
            (f"Accuracy at {table.budget_tokens:,} tokens, last checkpoints, on the problems that all answered.",),
        )
        for table in breakdowns(manifest).tables
        if table.benchmark not in flat
    )


def _share(share: Share) -> str:
    """Returns text such as 80.0% (8/10)."""
    return f"{percent(share.value)} ({share.k:,}/{share.n:,})"


def length_table(manifest: Manifest) -> ProtocolTables | None:
    """Returns None while there are no outputs to compare."""
    rows = tuple(
        (
            contrast.model,
            contrast.benchmark,
            f"{contrast.median:,.0f}",
            f"{contrast.base_median:,.0f}",
            f"{contrast.longer:,} / {contrast.shorter:,} of {contrast.problems:,}",
            f"{contrast.at_limit:,} of {contrast.outputs:,}",
            "-" if contrast.adjusted_p is None else p_text(contrast.adjusted_p),
            contrast.verdict,
        )
        for contrast in length_contrasts(manifest)
    )
    columns = ("Model", "Benchmark", "Median, tokens", "Base", "Longer / shorter", "Cut", "Adjusted p", "In words")
    note = (
        "Last checkpoints against the base, on the same problems: Wilcoxon's signed-rank test, Holm over these rows. "
        "Outputs that the largest budget cut count with the budget, so the difference is understated."
    )
    return ProtocolTables("Output lengths", columns, rows, (note,)) if rows else None
