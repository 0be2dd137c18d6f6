"""The experiment's tables: one per benchmark, a row per model, with completion and correctness as separate columns."""

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.api.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.results.stats.bounded_mean import clustered_share
from workloads.results.stats.share import Share


@dataclass(frozen=True)
class TableRow:
    """One model at one budget. `errors` are in no share; `missing` parts are not graded, or failed, for the reason in
    `note`.

    Intervals are by problem, so with several outputs per problem they are wider than the number of outputs suggests.
    accuracy: right / all, including uncompleted outputs with a right answer. completed: completed / all.
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
    rows: tuple[TableRow, ...]

    @property
    def noted(self) -> bool:
        """Returns whether a row is incomplete."""
        return not all(row.complete for row in self.rows)


def tables(manifest: Manifest) -> tuple[Table, ...]:
    """Returns each model at its own budget, in the manifest's order; the base comes first, at every budget of another
    model.
    """
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
    """Returns the budgets at which the tables show a model. The base has every budget of another model."""
    if model.kind != "base":
        return (model.budget_tokens,)
    others = {other.budget_tokens for other in manifest.models if other.kind != "base"}
    return tuple(sorted(others)) or (model.budget_tokens,)


def row_of(manifest: Manifest, model: ManifestModel, benchmark: str, budget_tokens: int) -> TableRow | None:
    """Returns all parts of a benchmark pooled; None if the model is not evaluated on it."""
    parts = [e for e in manifest.evaluations if e.model == model.id and e.benchmark == benchmark]
    if not parts:
        return None
    problems = [codes for part in parts for codes in problem_verdicts(part, budget_tokens)]
    missing = [part for part in parts if part.state != "done"]
    return TableRow(
        model=model,
        benchmark=benchmark,
        budget_tokens=budget_tokens,
        accuracy=_share(problems, "Rr", "RrWwNn"),
        completed=_share(problems, "RWN", "RrWwNn"),
        accuracy_completed=_share(problems, "R", "RWN"),
        strict=_share(problems, "R", "RrWwNn"),
        errors=sum(codes.count("e") for codes in problems),
        missing=len(missing),
        note=_note(missing),
    )


def _share(problems: Iterable[str], counted: str, among: str) -> Share:
    """Returns the share of outputs in `counted` among those with a code in `among`.

    `problems`: codes of each problem's outputs.
    """
    return clustered_share([(sum(c in counted for c in codes), sum(c in among for c in codes)) for codes in problems])


def problem_verdicts(evaluation: ManifestEvaluation, budget_tokens: int) -> list[str]:
    """Returns by problem, in order, one code of VERDICT_CODES per output. Empty if it is not graded."""
    size = evaluation.outputs_per_problem
    codes = verdicts_at(evaluation, budget_tokens)
    return [codes[start : start + size] for start in range(0, len(codes), size)]


def verdicts_at(evaluation: ManifestEvaluation, budget_tokens: int) -> str:
    """Returns one code of VERDICT_CODES per output; empty if it is not graded."""
    found = (item.verdicts for item in evaluation.budgets if item.counts.budget == budget_tokens)
    return next(found, "")


def _note(missing: Iterable[ManifestEvaluation]) -> str | None:
    reasons = {f"{part.part}: {part.reason or part.state}" for part in missing}
    return "; ".join(sorted(reasons)) or None
