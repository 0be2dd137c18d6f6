"""Finds benchmarks on which all models have accuracy 0%, or all 100%. Pure."""

from workloads.api.manifest import Manifest
from workloads.report.marks import percent
from workloads.results.tables import row_of


def flat_benchmarks(manifest: Manifest) -> dict[str, str]:
    """Returns a sentence for each benchmark, by name, on which all models have accuracy 0% or all 100% at every budget.

    Such a benchmark cannot distinguish models. At least two models must be graded on it.
    """
    found: dict[str, str] = {}
    for benchmark in manifest.benchmarks:
        rows = [
            row
            for model in manifest.models
            for budget in manifest.budgets
            if (row := row_of(manifest, model, benchmark.name, budget)) is not None and row.accuracy.n
        ]
        values = {row.accuracy.value for row in rows}
        if len({row.model.id for row in rows}) < 2 or values not in ({0.0}, {1.0}):
            continue
        completed = sorted(row.completed.value or 0.0 for row in rows)
        sizes = sorted({row.accuracy.n for row in rows})
        found[benchmark.name] = (
            f"{benchmark.name}: accuracy is {percent(values.pop())} for every model at every budget "
            f"({' or '.join(f'{size:,}' for size in sizes)} outputs each), so it tells no models apart; completion "
            f"{percent(completed[0])} to {percent(completed[-1])}."
        )
    return found
