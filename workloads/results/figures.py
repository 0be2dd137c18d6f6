"""What findings are made from: each model's counts on each benchmark, with its verdicts by problem if known."""

from dataclasses import dataclass

from workloads.contract.manifest import Manifest, ManifestModel, ManifestRun
from workloads.contract.records import DataStatistics
from workloads.contract.units import TrainInputs
from workloads.results.difference import Difference, independent_difference, paired_difference
from workloads.results.paired import Codes, Metric, pair, problem_codes
from workloads.results.statistics import Share
from workloads.results.tables import row_of


@dataclass(frozen=True)
class Figure:
    """One model on one benchmark at one budget. `codes` None: only the counts are known.

    accuracy and strict as in `tables.Row`: right / all, and right and completed / all.
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


@dataclass(frozen=True)
class Series:
    """A run: its checkpoints' figures in training order, by benchmark, and the base's at the same budget.

    `home` is the benchmark of the domain it was trained on, where that is known.
    """

    name: str
    label: str
    data_name: str | None
    home: str | None
    sequence_tokens: int | None
    overlong: str | None
    data: DataStatistics | None
    figures: dict[str, tuple[Figure, ...]]
    base: dict[str, Figure]

    def at(self, benchmark: str, samples: int) -> Figure | None:
        return next((figure for figure in self.figures.get(benchmark, ()) if figure.samples == samples), None)


def difference(first: Figure, second: Figure, metric: Metric) -> Difference | None:
    """Paired on the problems that both have; from the counts where verdicts are not known. None: nothing to compare."""
    if first.codes is not None and second.codes is not None:
        pairs = pair(first.codes, second.codes, metric)
        return paired_difference(pairs) if pairs.n else None
    a, b = first.share(metric), second.share(metric)
    return independent_difference(a, b) if a.n and b.n else None


def series_of(manifest: Manifest) -> tuple[Series, ...]:
    """One for every run that was trained here or elsewhere; candidates are no series."""
    return tuple(_series(manifest, run) for run in manifest.runs if run.role == "run")


def _series(manifest: Manifest, run: ManifestRun) -> Series:
    models = [model for model in manifest.models if model.run == run.name]
    base = next(model for model in manifest.models if model.kind == "base")
    names = [benchmark.name for benchmark in manifest.benchmarks]
    budget = models[0].budget_tokens if models else manifest.budgets[-1]
    found = {name: [figure_of(manifest, model, name, budget) for model in models] for name in names}
    bases = {name: figure_of(manifest, base, name, budget) for name in names}
    trained = run.inputs if isinstance(run.inputs, TrainInputs) else None
    return Series(
        name=run.name,
        label=run.label,
        data_name=run.data_name,
        home=_home(manifest, run),
        sequence_tokens=trained.sequence_tokens if trained else None,
        overlong=trained.overlong if trained else None,
        data=run.data,
        figures={name: tuple(figure for figure in figures if figure) for name, figures in found.items()},
        base={name: figure for name, figure in bases.items() if figure},
    )


def figure_of(manifest: Manifest, model: ManifestModel, benchmark: str, budget_tokens: int) -> Figure | None:
    """None until something of it is graded."""
    row = row_of(manifest, model, benchmark, budget_tokens)
    if row is None or not row.accuracy.n:
        return None
    return Figure(
        label=model.label if model.step is None else f"{model.label} step {model.step}",
        samples=model.samples,
        benchmark=benchmark,
        budget_tokens=budget_tokens,
        accuracy=row.accuracy,
        completed=row.completed,
        strict=row.strict,
        codes=problem_codes(manifest, model.id, benchmark, budget_tokens),
    )


def _home(manifest: Manifest, run: ManifestRun) -> str | None:
    """The first benchmark with the grader that the data is named for: math or code."""
    named = (run.data_name or "").lower()
    return next((b.name for b in manifest.benchmarks if b.grader in ("math", "code") and b.grader in named), None)
