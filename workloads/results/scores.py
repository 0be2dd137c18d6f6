"""The data for findings: each model's counts on each benchmark, with its verdicts by problem if known. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workloads.api.manifest import Manifest, ManifestModel, ManifestRun
from workloads.api.records import DataStatistics
from workloads.api.units import TrainInputs
from workloads.benchmarks.registry import domain_of
from workloads.results.run_comparison import why_missing
from workloads.results.stats.difference import Difference, independent_difference, paired_difference
from workloads.results.stats.paired import Codes, Metric, pair, problem_codes
from workloads.results.stats.share import Share
from workloads.results.tables import row_of


@dataclass(frozen=True)
class Score:
    """One model on one benchmark at one budget. `codes`: None if only the counts are known.

    `label` is the model's id, run@samples. accuracy and strict are as in `tables.TableRow`: right / all, and right and
    completed / all.
    """

    label: str
    samples: int | None
    benchmark: str
    budget_tokens: int
    accuracy: Share
    completed: Share
    strict: Share
    codes: Codes | None = None

    def share(self, metric: Metric) -> Share:
        return {"accuracy": self.accuracy, "completed": self.completed, "strict": self.strict}[metric]


Figures = Mapping[str, tuple[Score, ...]]
"""By benchmark: the checkpoints of a run with complete results, in training order."""


@dataclass(frozen=True)
class Series:
    """A run. `figures` and `base` are at `budget_tokens`, the budget at which the tables show the run.

    `elsewhere`: the same checkpoints at the other budgets. `domain`: the domain of its data in the experiment file;
    `domains`: those of benchmarks, by name; None if not stated. `missing`: by benchmark and "first" or "last", why this
    checkpoint has no result.
    """

    name: str
    label: str
    data_name: str | None
    sequence_tokens: int | None
    overlong: str | None
    data: DataStatistics | None
    budget_tokens: int
    figures: Figures
    base: Mapping[str, Score]
    elsewhere: Mapping[int, Figures] = field(default_factory=dict)
    domain: str | None = None
    domains: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def budgets(self) -> tuple[int, ...]:
        return tuple(sorted({self.budget_tokens, *self.elsewhere}))

    def at_budget(self, budget_tokens: int) -> Figures:
        return self.figures if budget_tokens == self.budget_tokens else self.elsewhere.get(budget_tokens, {})

    def at(self, benchmark: str, samples: int, budget_tokens: int) -> Score | None:
        figures = self.at_budget(budget_tokens).get(benchmark, ())
        return next((figure for figure in figures if figure.samples == samples), None)

    def benchmarks_of(self, domain: str) -> list[str]:
        return [name for name in self.figures if self.domains.get(name) == domain]

    def end(self, benchmark: str) -> Score | None:
        """Returns the last wanted checkpoint; None if it has no result, even if earlier ones have."""
        figures = self.figures.get(benchmark, ())
        return figures[-1] if figures and (benchmark, "last") not in self.missing else None

    def start(self, benchmark: str) -> Score | None:
        """Returns the first wanted checkpoint; None if it has no result."""
        figures = self.figures.get(benchmark, ())
        return figures[0] if figures and (benchmark, "first") not in self.missing else None


def difference(first: Score, second: Score, metric: Metric) -> Difference | None:
    """Returns a paired difference on the problems of both; from the counts if verdicts are unknown. None if they share
    no problem.

    Raises ValueError for two scores at different budgets, because a smaller budget alone completes less.
    """
    if first.budget_tokens != second.budget_tokens:
        raise ValueError(f"{first.label} at {first.budget_tokens} tokens and {second.label} at {second.budget_tokens}")
    if first.codes is not None and second.codes is not None:
        pairs = pair(first.codes, second.codes, metric)
        return paired_difference(pairs) if pairs.n else None
    a, b = first.share(metric), second.share(metric)
    return independent_difference(a, b) if a.n and b.n else None


def series_of(manifest: Manifest) -> tuple[Series, ...]:
    """Returns one for every run that was trained here or elsewhere; candidates are not series."""
    return tuple(_series(manifest, run) for run in manifest.runs if run.role == "run")


def _series(manifest: Manifest, run: ManifestRun) -> Series:
    models = [model for model in manifest.models if model.run == run.name]
    base = next(model for model in manifest.models if model.kind == "base")
    names = [benchmark.name for benchmark in manifest.benchmarks]
    budget = models[0].budget_tokens if models else manifest.budgets[-1]
    bases = {name: score_of(manifest, base, name, budget) for name in names}
    trained = run.inputs if isinstance(run.inputs, TrainInputs) else None
    return Series(
        name=run.name,
        label=run.label,
        data_name=run.data_name,
        sequence_tokens=trained.sequence_tokens if trained else None,
        overlong=trained.overlong if trained else None,
        data=run.data,
        budget_tokens=budget,
        figures=_figures(manifest, models, budget),
        base={name: figure for name, figure in bases.items() if figure},
        elsewhere={other: _figures(manifest, models, other) for other in manifest.budgets if other != budget},
        domain=run.domain,
        domains=_domains(manifest),
        missing=_missing(manifest, models),
    )


def _domains(manifest: Manifest) -> dict[str, str]:
    """Returns domains by benchmark: those that the file states, and those of the package's own benchmarks."""
    found = {b.name: b.domain or domain_of(b.name) for b in manifest.benchmarks}
    return {name: domain for name, domain in found.items() if domain is not None}


def _figures(manifest: Manifest, models: list[ManifestModel], budget: int) -> dict[str, tuple[Score, ...]]:
    return {
        benchmark.name: tuple(
            figure
            for model in models
            if why_missing(manifest, model.id, benchmark.name) is None
            if (figure := score_of(manifest, model, benchmark.name, budget)) is not None
        )
        for benchmark in manifest.benchmarks
    }


def _missing(manifest: Manifest, models: list[ManifestModel]) -> dict[tuple[str, str], str]:
    """Returns only benchmarks on which the checkpoints are evaluated."""
    found: dict[tuple[str, str], str] = {}
    asked = {(e.model, e.benchmark) for e in manifest.evaluations}
    for benchmark in (b.name for b in manifest.benchmarks):
        for place, model in (("first", models[0]), ("last", models[-1])) if models else ():
            if (model.id, benchmark) not in asked:
                continue
            reason = why_missing(manifest, model.id, benchmark)
            if reason is None and score_of(manifest, model, benchmark, model.budget_tokens) is None:
                reason = f"{benchmark}: no output could be graded"
            if reason is not None:
                found[benchmark, place] = f"{model.id} has no result: {reason}"
    return found


def score_of(manifest: Manifest, model: ManifestModel, benchmark: str, budget_tokens: int) -> Score | None:
    """Returns None until something of it is graded."""
    row = row_of(manifest, model, benchmark, budget_tokens)
    if row is None or not row.accuracy.n:
        return None
    return Score(
        label=model.id,
        samples=model.samples,
        benchmark=benchmark,
        budget_tokens=budget_tokens,
        accuracy=row.accuracy,
        completed=row.completed,
        strict=row.strict,
        codes=problem_codes(manifest, model.id, benchmark, budget_tokens),
    )
