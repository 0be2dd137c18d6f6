"""Tables of all checkpoints: one for each benchmark, with a row for each model and its difference to the base. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from workloads.api.manifest import Manifest
from workloads.report.failures import STATE_TEXTS, cause_text, shortened
from workloads.report.flat import flat_benchmarks
from workloads.report.marks import ShownChange, base_change, percent
from workloads.report.text import errors_text, note_of
from workloads.results.base_comparison import base_on_shared
from workloads.results.conclusions import Conclusions
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, budgets_of, row_of

NOTE_CHARACTERS = 90


@dataclass(frozen=True)
class ShareCell:
    """Text such as 73.0%, 73/100, 63.6 to 80.7."""

    value: str
    counts: str
    interval: str


@dataclass(frozen=True)
class CheckpointRow:
    """`scope`: the problems of a base's row, if it is not clear. `note`: what is missing.

    `note_title`: the full reasons if `note` is shortened. `is_first`: the row above is of another run.
    """

    model: str
    kind: str
    is_first: bool
    scope: str
    samples: str
    budget: str
    accuracy: ShareCell
    accuracy_change: ShownChange | None
    completed: ShareCell
    completed_change: ShownChange | None
    accuracy_completed: ShareCell
    strict: ShareCell
    note: str
    note_title: str


@dataclass(frozen=True)
class CheckpointTable:
    """`flat`: a sentence, if all models have the same accuracy (`flat_benchmarks`).

    `shows_strict`: it differs from accuracy.
    """

    benchmark: str
    rows: tuple[CheckpointRow, ...]
    shows_strict: bool
    flat: str | None

    @property
    def columns(self) -> int:
        return 8 + self.shows_strict


def checkpoint_tables(manifest: Manifest, conclusions: Conclusions) -> tuple[CheckpointTable, ...]:
    """Shows each model at its own budget, and the base at every budget of another model."""
    flat = flat_benchmarks(manifest)
    made = []
    for benchmark in manifest.benchmarks:
        found = list(_rows(manifest, benchmark.name))
        strict = any(row.strict != row.accuracy for _, row, _ in found)
        rows = []
        run: str | None = None
        for scope, row, is_compared in found:
            beside = conclusions.rows.get((row.model.id, benchmark.name, row.budget_tokens)) if is_compared else None
            changes = (base_change(beside.accuracy), base_change(beside.completed)) if beside else (None, None)
            rows.append(_row(manifest, scope, row, row.model.run != run, *changes))
            run = row.model.run
        made.append(CheckpointTable(benchmark.name, tuple(rows), strict, flat.get(benchmark.name)))
    return tuple(made)


def _rows(manifest: Manifest, benchmark: str) -> Iterator[tuple[str, TableRow, bool]]:
    """Yields (scope, row, whether it is compared with the base). The base comes first, at every budget of another
    model.

    If the base has more problems than the others, it has two rows: the shared problems, and all.
    """
    for model in manifest.models:
        for budget in budgets_of(manifest, model):
            row = row_of(manifest, model, benchmark, budget)
            if row is None:
                continue
            if model.kind != "base":
                yield "", row, True
                continue
            shared = base_on_shared(manifest, benchmark, budget)
            if shared is not None and shared.accuracy.n != row.accuracy.n:
                yield f"on the {shared.accuracy.n:,} problems that all were asked", shared, False
                yield "on all of its problems", row, False
            else:
                yield "", row, False


def _row(
    manifest: Manifest,
    scope: str,
    row: TableRow,
    is_first: bool,
    accuracy: ShownChange | None,
    completed: ShownChange | None,
) -> CheckpointRow:
    model = row.model
    note = _note(manifest, row)
    return CheckpointRow(
        model=model.id,
        kind=model.kind,
        is_first=is_first,
        scope=scope,
        samples="-" if model.samples is None or model.kind == "candidate" else f"{model.samples:,}",
        budget=f"{row.budget_tokens:,}",
        accuracy=_cell(row.accuracy),
        accuracy_change=accuracy,
        completed=_cell(row.completed),
        completed_change=completed,
        accuracy_completed=_cell(row.accuracy_completed),
        strict=_cell(row.strict),
        note=note,
        note_title="" if note == note_of(row) else note_of(row),
    )


def _note(manifest: Manifest, row: TableRow) -> str:
    """Returns what is missing and why, each reason on one line: the top of the page has the full causes."""
    parts = [
        f"{e.part}: failed: {shortened(cause_text(e.reason), NOTE_CHARACTERS)}"
        if e.state == "failed"
        else f"{e.part}: {STATE_TEXTS[e.state]}"
        for e in manifest.evaluations
        if (e.model, e.benchmark) == (row.model.id, row.benchmark) and e.state != "done"
    ]
    return "; ".join([*([errors_text(row)] if row.errors else []), *dict.fromkeys(parts)])


def _cell(share: Share) -> ShareCell:
    if share.interval is None:
        return ShareCell("-", "", "")
    low, high = share.interval
    return ShareCell(percent(share.value), f"{share.k:,}/{share.n:,}", f"{low * 100:.1f} to {high * 100:.1f}")
