"""Runs that differ only in their seed: the effect of the recipe without the chance of one run. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from workloads.api.manifest import Manifest, ManifestModel, ManifestRun
from workloads.api.model import digest_of
from workloads.results.stats.bounded_mean import equal_shares_p, mean_interval
from workloads.results.stats.paired import METRICS, Metric, problem_codes, score

COLUMNS = (
    "recipe", "seeds", "samples", "benchmark", "budget", "metric", "value", "low", "high", "between_seeds",
    "between_seeds_by_chance", "seeds_differ_p", "problems", "to_base", "to_base_low", "to_base_high",
)  # fmt: skip
"""Columns of `cells`: a table with one line per value."""


@dataclass(frozen=True)
class Recipe:
    """`runs`: names of runs with the same inputs but the seed, at least two. `seeds` in the same order."""

    runs: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return " / ".join(self.labels)


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds and problems, with the 95% interval over other seeds and other problems."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RecipeFigure:
    """One recipe after `samples` samples on one benchmark: shares of outputs that meet the metric.

    `values`: the share of each seed, on the problems of all seeds. `spread`: their standard deviation; `chance`: the
    standard deviation from the limited number of problems alone. `seeds_differ_p`: p of no difference between seeds.
    `to_base`: the mean difference to the base on its problems.
    """

    recipe: Recipe
    samples: int
    benchmark: str
    budget_tokens: int
    metric: Metric
    values: tuple[float, ...]
    problems: int
    mean: SeedMean
    spread: float
    chance: float
    seeds_differ_p: float
    to_base: SeedMean | None


def recipes(manifest: Manifest) -> tuple[Recipe, ...]:
    """Returns groups of two or more runs whose inputs differ only in the seed, in the manifest's order.

    Runs with equal seeds are one training, so only the first counts.
    """
    groups: dict[tuple[str, str | None], dict[int, ManifestRun]] = {}
    for run in manifest.runs:
        if run.inputs is not None:
            key = digest_of(run.inputs.model_copy(update={"seed": 0}))
            groups.setdefault((key, run.data_name), {}).setdefault(run.inputs.seed, run)
    return tuple(
        Recipe(tuple(run.name for run in runs.values()), tuple(run.label for run in runs.values()), tuple(runs))
        for runs in groups.values()
        if len(runs) > 1
    )


def recipe_figures(manifest: Manifest) -> tuple[RecipeFigure, ...]:
    """Returns every recipe at every number of samples at which all of its seeds are graded, at the runs' own budget."""
    return tuple(found for recipe in recipes(manifest) for found in _figures(manifest, recipe))


def cells(figure: RecipeFigure) -> tuple[object, ...]:
    """Returns a line of a table with COLUMNS."""
    base = figure.to_base
    return (
        figure.recipe.name, len(figure.values), figure.samples, figure.benchmark, figure.budget_tokens, figure.metric,
        figure.mean.value, figure.mean.low, figure.mean.high, figure.spread, figure.chance, figure.seeds_differ_p,
        figure.problems, *((base.value, base.low, base.high) if base else ("", "", "")),
    )  # fmt: skip


def seed_mean(values: np.ndarray, lowest: float, highest: float) -> SeedMean:
    """Mean of `values`: [seeds, problems], each in [lowest, highest], as a sample of seeds and of problems.

    Seeds and problems are crossed random effects: the variance is (MS seeds + MS problems - MS rest) / (seeds x
    problems), with Satterthwaite's degrees of freedom. Never narrower than the interval by problem alone, which has a
    width even if no value differs. Raises ValueError with fewer than two seeds or problems.
    """
    seeds, problems = values.shape
    if seeds < 2 or problems < 2:
        raise ValueError(f"{seeds} seeds and {problems} problems: two of each are needed")
    value = float(values.mean())
    of_seeds, of_problems, rest = _mean_squares(values)
    parts = [
        (max(of_seeds, rest), seeds - 1),
        (max(of_problems, rest), problems - 1),
        (-rest, (seeds - 1) * (problems - 1)),
    ]
    variance = sum(square for square, _ in parts)
    low, high = mean_interval(values.mean(axis=0), lowest, highest, 0.05, single=False)
    if variance > 0:
        freedom = variance**2 / sum(square**2 / degrees for square, degrees in parts)
        reach = float(student.ppf(0.975, freedom)) * (variance / values.size) ** 0.5
        low, high = min(low, value - reach), max(high, value + reach)
    return SeedMean(value, max(lowest, low), min(highest, high))


def _mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Returns mean squares of seeds, of problems, and of the rest."""
    seeds, problems = values.shape
    by_seed, by_problem = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - by_seed - by_problem + values.mean()
    return (
        float(problems * np.var(by_seed, ddof=1)),
        float(seeds * np.var(by_problem, ddof=1)),
        float(np.sum(rest**2) / ((seeds - 1) * (problems - 1))),
    )


def _figures(manifest: Manifest, recipe: Recipe) -> Iterator[RecipeFigure]:
    by_run = [{m.samples: m for m in manifest.models if m.run == name and m.samples} for name in recipe.runs]
    for samples in (count for count in by_run[0] if all(count in models for models in by_run)):
        models = [found[samples] for found in by_run]
        budgets = {model.budget_tokens for model in models}
        if len(budgets) == 1:
            for benchmark in manifest.benchmarks:
                for metric in METRICS:
                    found = _figure(manifest, recipe, models, benchmark.name, budgets.copy().pop(), metric)
                    if found is not None:
                        yield found


def _figure(
    manifest: Manifest, recipe: Recipe, models: list[ManifestModel], benchmark: str, budget: int, metric: Metric
) -> RecipeFigure | None:
    codes = [problem_codes(manifest, model.id, benchmark, budget) for model in models]
    shared = [p for p in codes[0] if all(p in other and "e" not in other[p] for other in codes)]
    if len(shared) < 2:
        return None
    values = np.array([[score(other[p], metric) for p in shared] for other in codes])
    shares = values.mean(axis=1)
    base = problem_codes(manifest, "base", benchmark, budget)
    with_base = [i for i, p in enumerate(shared) if p in base and "e" not in base[p]]
    to_base = None
    if len(with_base) > 1:
        theirs = np.array([score(base[shared[i]], metric) for i in with_base])
        to_base = seed_mean(values[:, with_base] - theirs, -1.0, 1.0)
    return RecipeFigure(
        recipe=recipe,
        samples=models[0].samples or 0,
        benchmark=benchmark,
        budget_tokens=budget,
        metric=metric,
        values=tuple(float(share) for share in shares),
        problems=len(shared),
        mean=seed_mean(values, 0.0, 1.0),
        spread=float(np.std(shares, ddof=1)),
        chance=float((_mean_squares(values)[2] / len(shared)) ** 0.5),
        seeds_differ_p=equal_shares_p(values.T),
        to_base=to_base,
    )
