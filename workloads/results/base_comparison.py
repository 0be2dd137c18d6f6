"""Compares models with the base: paired, on the problems of both, at one token budget. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.api.manifest import BudgetVerdicts, Manifest, ManifestEvaluation, ManifestModel
from workloads.api.records import BudgetCounts
from workloads.results.run_comparison import ALPHA, compared_budgets, graded_by_all, why_missing
from workloads.results.stats.difference import Difference, paired_difference
from workloads.results.stats.equivalence import MARGIN, is_within_margin
from workloads.results.stats.paired import Metric, pair, problem_codes
from workloads.results.tables import TableRow, row_of

BASE_METRICS: tuple[Metric, ...] = ("accuracy", "completed")


@dataclass(frozen=True)
class BaseContrast:
    """One metric of a model minus the base's. `difference` is in 0..1; None: see `reason`.

    `left_out`: shared problems with an output that could not be graded. `adjusted_p`: adjusted for all comparisons of
    the report. `interval`: adjusted in the same way; it does not contain 0 if and only if the difference is
    significant.
    """

    model: str
    benchmark: str
    budget_tokens: int
    metric: Metric
    difference: Difference | None = None
    left_out: int = 0
    adjusted_p: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    @property
    def choices(self) -> int:
        """The number of pairs that could have been chosen: one, because the choice was made beforehand."""
        return 1

    @property
    def p(self) -> float | None:
        return None if self.difference is None else self.difference.p

    @property
    def significant(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def sign(self) -> int:
        """1 if significantly above the base, -1 if below, 0 if not distinguishable or not compared."""
        if not self.significant or self.difference is None:
            return 0
        return 1 if self.difference.estimate > 0 else -1

    @property
    def equivalent(self) -> bool:
        """Returns whether the two differ by less than MARGIN: the whole adjusted interval does."""
        return is_within_margin(self.interval)

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.difference is None:
            return f"not compared: {self.reason}"
        if not self.sign and self.equivalent:
            return f"equivalent to the base within {MARGIN * 100:g} points"
        return {1: "higher than the base", -1: "lower than the base", 0: "not distinguishable from the base"}[self.sign]


@dataclass(frozen=True)
class EndCell:
    """The last checkpoint of a run on one benchmark at one budget. `row`: None if not evaluated yet, failed, or not
    wanted.

    `base`: the base on the problems of both. `shown`: the budget at which the tables show the run.
    """

    benchmark: str
    budget_tokens: int
    shown: bool
    row: TableRow | None
    base: TableRow | None
    accuracy: BaseContrast
    completed: BaseContrast


@dataclass(frozen=True)
class RunEnd:
    """The end of a run (or a candidate): its last wanted checkpoint, graded or not."""

    run: str
    label: str
    model: str
    samples: int | None
    cells: tuple[EndCell, ...]


@dataclass(frozen=True)
class RowComparison:
    """A row of a table with the base on the same problems. `base`: None if they share no problem."""

    base: TableRow | None
    accuracy: BaseContrast
    completed: BaseContrast


def run_ends(manifest: Manifest) -> tuple[RunEnd, ...]:
    """Returns one for each run and candidate with a model. `adjusted_p` is not set."""
    budgets = compared_budgets(manifest)
    ends = []
    for run in manifest.runs:
        models = [model for model in manifest.models if model.run == run.name]
        if models:
            last = models[-1]
            cells = tuple(_cell(manifest, last, b.name, budget) for b in manifest.benchmarks for budget in budgets)
            ends.append(RunEnd(run.name, run.label, last.id, last.samples, cells))
    return tuple(ends)


def _cell(manifest: Manifest, model: ManifestModel, benchmark: str, budget: int) -> EndCell:
    missing = why_missing(manifest, model.id, benchmark)
    row = None if missing else row_of(manifest, model, benchmark, budget)
    base, accuracy, completed = _compared(manifest, model, benchmark, budget, missing)
    return EndCell(benchmark, budget, budget == model.budget_tokens, row, base, accuracy, completed)


def row_comparisons(manifest: Manifest) -> dict[tuple[str, str, int], RowComparison]:
    """Returns by model id, benchmark and budget every checkpoint and candidate at its own budget, as the tables show
    it.
    """
    return {
        (model.id, benchmark.name, model.budget_tokens): RowComparison(
            *_compared(manifest, model, benchmark.name, model.budget_tokens, None)
        )
        for model in manifest.models
        if model.kind != "base"
        for benchmark in manifest.benchmarks
    }


def base_on_shared(manifest: Manifest, benchmark: str, budget_tokens: int) -> TableRow | None:
    """Returns the base on `shared_problems`. None if there are none. The full row is in `tables.row_of`."""
    shared = shared_problems(manifest, benchmark, budget_tokens)
    return row_on(manifest, _base(manifest), benchmark, budget_tokens, shared) if shared else None


def shared_problems(manifest: Manifest, benchmark: str, budget_tokens: int) -> list[str]:
    """Returns the base's problems that every graded checkpoint and candidate shown at this budget has too.

    Empty if no such model is graded yet, or if they share no problem with the base.
    """
    models = [m for m in manifest.models if m.kind != "base" and m.budget_tokens == budget_tokens]
    codes = [problem_codes(manifest, m.id, benchmark, budget_tokens) for m in models]
    asked = [own for own in codes if own]
    theirs = problem_codes(manifest, _base(manifest).id, benchmark, budget_tokens)
    return [p for p in theirs if all(p in own for own in asked)] if asked else []


def row_on(
    manifest: Manifest, model: ManifestModel, benchmark: str, budget_tokens: int, problems: Iterable[str]
) -> TableRow | None:
    """Returns a table's row of `model` counted only on `problems`."""
    wanted = frozenset(problems)
    own = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model.id, benchmark)]
    narrowed = tuple(_narrowed(e, wanted) for e in own)
    return row_of(manifest.model_copy(update={"evaluations": narrowed}), model, benchmark, budget_tokens)


def _narrowed(evaluation: ManifestEvaluation, wanted: frozenset[str]) -> ManifestEvaluation:
    size = evaluation.outputs_per_problem
    kept = [i for i, problem in enumerate(evaluation.problems) if problem in wanted]
    outputs = [i * size + k for i in kept for k in range(size)]

    def chosen(text: str) -> str:
        return "".join(text[i] for i in outputs)

    return evaluation.model_copy(
        update={
            "problems": tuple(evaluation.problems[i] for i in kept),
            "tokens": tuple(evaluation.tokens[i] for i in outputs) if evaluation.tokens else (),
            "answers": (),
            "finish": chosen(evaluation.finish) if evaluation.finish else "",
            "budgets": tuple(
                BudgetVerdicts(counts=_counts(at.counts, codes), verdicts=codes)
                for at in evaluation.budgets
                for codes in (chosen(at.verdicts),)
            ),
        }
    )


def _counts(whole: BudgetCounts, codes: str) -> BudgetCounts:
    """Returns counts of some outputs. Causes by output are unknown and left empty."""
    return BudgetCounts(
        budget=whole.budget,
        outputs=len(codes),
        completed=sum(c in "RWN" for c in codes),
        right=sum(c in "Rr" for c in codes),
        right_and_completed=codes.count("R"),
        wrong=sum(c in "Ww" for c in codes),
        no_answer=sum(c in "Nn" for c in codes),
        errors=codes.count("e"),
        causes={},
    )


def _base(manifest: Manifest) -> ManifestModel:
    return next(model for model in manifest.models if model.kind == "base")


def _compared(
    manifest: Manifest, model: ManifestModel, benchmark: str, budget: int, missing: str | None
) -> tuple[TableRow | None, BaseContrast, BaseContrast]:
    """Returns the base on the shared problems, and both metrics' contrasts."""
    base = _base(manifest)
    ours, theirs = (problem_codes(manifest, m.id, benchmark, budget) for m in (model, base))
    shared = graded_by_all([ours, theirs])
    reason = missing or (None if shared else _why_none(manifest, model, base, benchmark))
    accuracy, completed = (BaseContrast(model.id, benchmark, budget, m, reason=reason) for m in BASE_METRICS)
    if reason is not None:
        return None, accuracy, completed
    made = []
    for metric in BASE_METRICS:
        pairs = pair(ours, theirs, metric)
        found = paired_difference(pairs)
        made.append(BaseContrast(model.id, benchmark, budget, metric, found, pairs.left_out))
    return row_on(manifest, base, benchmark, budget, shared), made[0], made[1]


def _why_none(manifest: Manifest, model: ManifestModel, base: ManifestModel, benchmark: str) -> str:
    for side in (model, base):
        if (reason := why_missing(manifest, side.id, benchmark)) is not None:
            return f"{side.id}: {reason}"
    return "the two share no graded problem"
