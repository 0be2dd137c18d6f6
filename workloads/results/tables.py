"""The two tables of the experiment: one per benchmark, a row per model, completion told apart from correctness."""

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.contract.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.results.statistics import Share


@dataclass(frozen=True)
class Row:
    """One model at one budget. `errors` are in no share; `missing` parts are not graded, or failed, for `note`.

    accuracy: right / all, an uncompleted output with a right answer in it included. completed: completed / all.
    accuracy_completed: right among the completed. strict: right and completed / all.
    """

    model: ManifestModel
    benchmark: str
    budget_tokens: int
    accuracy: Share
    completed: Share
    accuracy_completed: Share
    strict: Share
    errors: int
    missing: int
    note: str | None

    @property
    def complete(self) -> bool:
        return not self.errors and not self.missing


@dataclass(frozen=True)
class Table:
    benchmark: str
    rows: tuple[Row, ...]

    @property
    def noted(self) -> bool:
        """Some row is incomplete."""
        return not all(row.complete for row in self.rows)


def tables(manifest: Manifest) -> tuple[Table, ...]:
    """Each model at its own budget, in the manifest's order; the base first, at every budget that another model has."""
    return tuple(
        Table(
            benchmark.name,
            tuple(
                row
                for model in manifest.models
                for budget in budgets_of(manifest, model)
                if (row := row_of(manifest, model, benchmark.name, budget)) is not None
            ),
        )
        for benchmark in manifest.benchmarks
    )


def budgets_of(manifest: Manifest, model: ManifestModel) -> tuple[int, ...]:
    """Where the tables show a model: every row of another model finds the base's at its own budget."""
    if model.kind != "base":
        return (model.budget_tokens,)
    others = {other.budget_tokens for other in manifest.models if other.kind != "base"}
    return tuple(sorted(others)) or (model.budget_tokens,)


def row_of(manifest: Manifest, model: ManifestModel, benchmark: str, budget_tokens: int) -> Row | None:
    """All parts of a benchmark pooled; None when the model was not asked it."""
    parts = [e for e in manifest.evaluations if e.model == model.id and e.benchmark == benchmark]
    if not parts:
        return None
    codes = "".join(verdicts_at(part, budget_tokens) for part in parts)
    judged = [code for code in codes if code != "e"]
    right, completed = [c for c in judged if c in "Rr"], [c for c in judged if c.isupper()]
    both = [c for c in judged if c == "R"]
    missing = [part for part in parts if part.state != "done"]
    return Row(
        model=model,
        benchmark=benchmark,
        budget_tokens=budget_tokens,
        accuracy=Share(len(right), len(judged)),
        completed=Share(len(completed), len(judged)),
        accuracy_completed=Share(len(both), len(completed)),
        strict=Share(len(both), len(judged)),
        errors=len(codes) - len(judged),
        missing=len(missing),
        note=_note(missing),
    )


def verdicts_at(evaluation: ManifestEvaluation, budget_tokens: int) -> str:
    """One code of VERDICT_CODES per output; empty when it is not graded."""
    found = (item.verdicts for item in evaluation.budgets if item.counts.budget == budget_tokens)
    return next(found, "")


def _note(missing: Iterable[ManifestEvaluation]) -> str | None:
    reasons = {f"{part.part}: {part.reason or part.state}" for part in missing}
    return "; ".join(sorted(reasons)) or None
