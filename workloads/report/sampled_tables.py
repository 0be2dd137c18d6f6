"""Two further tables: several outputs per problem, and runs that differ only in their seed. Pure."""

from collections.abc import Iterator, Mapping

from workloads.api.manifest import Manifest
from workloads.report.marks import percent
from workloads.report.protocol_table import ProtocolTables
from workloads.results.samples import Estimate, SampledRow, sampled_rows
from workloads.results.seeds import RecipeFigure, SeedMean, recipe_figures, recipes
from workloads.results.stats.paired import Metric

SHOWN_METRICS: Mapping[Metric, str] = {"accuracy": "Accuracy", "completed": "Completion"}
"""Shown metrics of a recipe with their names; recipes.csv has the others too."""


def samples_table(manifest: Manifest) -> ProtocolTables | None:
    """Returns mean of n, pass@k and maj@k of every model.

    None with one output per problem, and while nothing is graded.
    """
    found = sampled_rows(manifest)
    if not found:
        return None
    passes = sorted({k for row in found for k, _ in row.pass_at if k > 1})
    majorities = sorted({k for row in found for k, _ in row.majority_at if k > 1})
    outputs = manifest.sampling.n
    measures = (f"Mean of {outputs:,}", *(f"pass@{k}" for k in passes), *(f"maj@{k}" for k in majorities))
    columns = ("Model", "Benchmark", "Budget", "Problems", *measures)
    notes = [
        f"{outputs:,} outputs per problem. Intervals are 95%, by problem, each figure for itself.",
        "Figures of models that were asked different problems cannot be compared.",
        "pass@k: the chance that one of k outputs is right, unbiased.",
    ]
    if majorities:
        notes.append("maj@k: the chance that the most frequent answer of k outputs is right. Code has none.")
    rows = tuple(tuple(_sampled_cells(row, passes, majorities)) for row in found)
    return ProtocolTables("Several outputs per problem", columns, rows, tuple(notes))


def _sampled_cells(row: SampledRow, passes: list[int], majorities: list[int]) -> Iterator[str]:
    shared = " on the problems that all were asked" if row.scope == "shared" else ""
    yield from (f"{row.model}{shared}", row.benchmark, f"{row.budget_tokens:,}", f"{row.mean.problems:,}")
    yield _figure(row.mean)
    for sizes, estimates in ((passes, dict(row.pass_at)), (majorities, dict(row.majority_at))):
        yield from (_figure(estimates[k]) if k in estimates else "-" for k in sizes)


def recipes_table(manifest: Manifest) -> ProtocolTables | None:
    """Returns each recipe at every number of samples at which all of its seeds are graded.

    None if no runs differ only in their seed.
    """
    rows = tuple(_recipe_cells(figure) for figure in recipe_figures(manifest) if figure.metric in SHOWN_METRICS)
    columns = (
        "Recipe", "Seeds", "Samples", "Benchmark", "Budget", "Problems", "Metric", "Mean", "S.d.", "By chance",
        "To base",
    )  # fmt: skip
    notes = (
        "A recipe: runs that differ in their seed only. Means are over seeds and problems.",
        "Intervals are 95%, for other seeds and other problems, each figure for itself: none is called significant.",
        "S.d.: standard deviation between seeds, in points. By chance: what the number of problems alone gives.",
        "To base: the mean difference on the problems that the base answered too, in points.",
    )
    return ProtocolTables("Recipes", columns, rows, notes) if rows else None


def recipe_sentences(manifest: Manifest) -> Iterator[str]:
    """Yields one sentence for each recipe: its accuracy after the most samples at which all of its seeds are graded."""
    figures = [figure for figure in recipe_figures(manifest) if figure.metric == "accuracy"]
    for recipe in recipes(manifest):
        own = [figure for figure in figures if figure.recipe == recipe]
        name = f"Recipe {recipe.name} ({len(recipe.seeds)} seeds"
        if not own:
            yield f"{name}): there is no number of samples at which all of its seeds have results to compare."
            continue
        last = max(figure.samples for figure in own)
        shares = "; ".join(_accuracy_text(figure) for figure in own if figure.samples == last)
        yield f"{name}, after {last:,} samples): {shares}. The 95% intervals are for other seeds and other problems."


def _accuracy_text(figure: RecipeFigure) -> str:
    """Returns text such as: math-500 at 4,096 tokens: 61.0% right (52.1 to 69.9), seeds differ by s.d.

    2.1 points (1.8 by chance).
    """
    return (
        f"{figure.benchmark} at {figure.budget_tokens:,} tokens: {_share(figure.mean, 'right ')}, seeds differ by s.d. "
        f"{figure.spread * 100:.1f} points ({figure.chance * 100:.1f} by chance)"
    )


def _recipe_cells(figure: RecipeFigure) -> tuple[str, ...]:
    base = figure.to_base
    return (
        figure.recipe.name,
        ", ".join(map(str, figure.recipe.seeds)),
        f"{figure.samples:,}",
        figure.benchmark,
        f"{figure.budget_tokens:,}",
        f"{figure.problems:,}",
        SHOWN_METRICS[figure.metric],
        _share(figure.mean),
        f"{figure.spread * 100:.1f}",
        f"{figure.chance * 100:.1f}",
        "-" if base is None else f"{base.value * 100:+.1f} ({base.low * 100:+.1f} to {base.high * 100:+.1f})",
    )


def _share(mean: SeedMean, word: str = "") -> str:
    """Returns text such as 61.0% (52.1 to 69.9)."""
    return f"{percent(mean.value)} {word}({mean.low * 100:.1f} to {mean.high * 100:.1f})"


def _figure(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} ({estimate.low * 100:.1f} to {estimate.high * 100:.1f})"
