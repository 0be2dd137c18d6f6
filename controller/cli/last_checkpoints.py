"""The table at the end of `potstill run`: the base and the last checkpoint of each run, by benchmark and budget."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from controller.terminal import shown
from workloads.api.manifest import Manifest, ManifestModel
from workloads.results.run_comparison import compared_budgets
from workloads.results.stats.share import Share
from workloads.results.tables import row_of


@dataclass(frozen=True)
class LastCheckpoint:
    """The base or a run's last checkpoint at one budget.

    `cells`: (accuracy, completion) for each benchmark; None: the manifest has no result.
    """

    model: str
    label: str
    budget_tokens: int
    cells: tuple[tuple[Share, Share] | None, ...]


def last_checkpoints(manifest: Manifest) -> tuple[LastCheckpoint, ...]:
    """Returns rows for each compared budget: the base, then the last checkpoint of each run and candidate, in the
    spec's order.
    """
    return tuple(_rows(manifest))


def _rows(manifest: Manifest) -> Iterator[LastCheckpoint]:
    base = next(model for model in manifest.models if model.kind == "base")
    last_models: list[tuple[ManifestModel, str]] = [(base, "Base")]
    for run in manifest.runs:
        models = [model for model in manifest.models if model.run == run.name]
        if models:
            last_models.append((max(models, key=lambda model: model.samples or 0), run.label))
    for budget in compared_budgets(manifest):
        for model, label in last_models:
            rows = [row_of(manifest, model, benchmark.name, budget) for benchmark in manifest.benchmarks]
            cells = tuple((row.accuracy, row.completed) if row and row.accuracy.n else None for row in rows)
            yield LastCheckpoint(model.id, label, budget, cells)


def last_checkpoints_table(manifest: Manifest) -> Table:
    """Returns one row for each of `last_checkpoints`.

    Each benchmark has two columns: accuracy with k/n, and completion.
    """
    rows = last_checkpoints(manifest)
    budgets = {row.budget_tokens for row in rows}
    table = Table(title="Last checkpoints", title_justify="left", box=None, pad_edge=False)
    for column in ("", "checkpoint", *(("tokens",) if len(budgets) > 1 else ())):
        table.add_column(column, justify="right" if column == "tokens" else "left")
    for benchmark in manifest.benchmarks:
        table.add_column(f"{benchmark.name}: right", justify="right")
        table.add_column("completed", justify="right")
    for row in rows:
        names = [shown(row.label), shown("" if row.model == "base" else row.model)]
        tokens = [shown(f"{row.budget_tokens:,}")] if len(budgets) > 1 else []
        table.add_row(*names, *tokens, *(shown(text) for cell in row.cells for text in _texts(cell)))
    return table


def _texts(cell: tuple[Share, Share] | None) -> tuple[str, str]:
    if cell is None:
        return "-", "-"
    accuracy, completed = cell
    return f"{_percent(accuracy)} ({accuracy.k}/{accuracy.n})", _percent(completed)


def _percent(share: Share) -> str:
    return "-" if share.value is None else f"{share.value:.1%}"
