"""Outputs as a list of one model on one benchmark with verdicts, and one output with its whole text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.ui.kept import Kept
from workloads.api.manifest import VERDICT_CODES, Manifest
from workloads.report.output_browser import OutputRows, output_rows
from workloads.storage.base import Store

SETS_KEPT = 6
"""Sets of outputs of one model on one benchmark: 500 outputs of 4,096 tokens are about 10 MB."""
LETTERS = {"right": "R", "wrong": "W", "no_answer": "N"}
FINISHES = {"s": "stop", "l": "length", "e": "error"}


class UnknownOutput(Exception):
    """The manifest has no such evaluation, or the evaluation has no such output."""


@dataclass(frozen=True)
class Readable:
    """A model with outputs on a benchmark. `budget_tokens`: the budget at which the tables show the model."""

    model: str
    benchmark: str
    budget_tokens: int
    outputs: int


@dataclass(frozen=True)
class OutputLine:
    """`codes`: by budget, one letter of VERDICT_CODES; "e" if it is not graded.

    `tokens`: number of generated tokens.
    """

    problem: str
    index: int
    tokens: int
    finish: str
    codes: Mapping[str, str]


@dataclass(frozen=True)
class OutputList:
    """`note`: why not all of it can be shown. `meanings`: the meaning of each letter."""

    model: str
    benchmark: str
    outputs: tuple[OutputLine, ...]
    note: str | None
    meanings: Mapping[str, str]


@dataclass(frozen=True)
class GradeShown:
    """`why`: cause and incomplete parts, as the grader reports them. `evidence`: the grader's JSON."""

    budget_tokens: int
    code: str
    why: str
    answer: str | None
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class OutputShown:
    """One whole output, with its problem and the prompt as it was sent; None for values that the store does not
    have.
    """

    problem: str
    index: int
    model: str
    tokens: int
    finish: str
    text: str
    question: str | None
    prompt: str | None
    grades: tuple[GradeShown, ...]
    notes: tuple[str, ...]


class Outputs:
    """Caches the sets of outputs that were read last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Kept[OutputRows] = Kept(SETS_KEPT)

    def readable(self, manifest: Manifest) -> tuple[Readable, ...]:
        sizes: dict[tuple[str, str], int] = {}
        for e in manifest.evaluations:
            if e.generate is not None and e.problems:
                key = (e.model, e.benchmark)
                sizes[key] = sizes.get(key, 0) + len(e.problems) * e.outputs_per_problem
        budgets = {model.id: model.budget_tokens for model in manifest.models}
        return tuple(Readable(model, name, budgets[model], size) for (model, name), size in sizes.items())

    def listed(self, manifest: Manifest, model: str, benchmark: str) -> OutputList:
        """Raises UnknownOutput, StoreError."""
        found = self._rows(manifest, model, benchmark)
        lines = tuple(
            OutputLine(
                problem=row["p"],
                index=row["k"],
                tokens=row["n"],
                finish=FINISHES[row["f"]],
                codes={str(budget): _code(row["g"].get(budget)) for budget in manifest.budgets},
            )
            for row in found.rows
        )
        return OutputList(model, benchmark, lines, found.reason, VERDICT_CODES)

    def one(self, manifest: Manifest, model: str, benchmark: str, problem: str, index: int) -> OutputShown:
        """Raises UnknownOutput, StoreError."""
        found = self._rows(manifest, model, benchmark)
        row = next((row for row in found.rows if (row["p"], row["k"]) == (problem, index)), None)
        if row is None:
            raise UnknownOutput(f"{model} on {benchmark} has no output {index} for {problem}")
        return OutputShown(
            problem=problem,
            index=index,
            model=model,
            tokens=row["n"],
            finish=FINISHES[row["f"]],
            text=row["t"],
            question=found.questions.get(problem),
            prompt=found.prompts.get(row["s"]),
            grades=tuple(_grade(budget, grade) for budget, grade in sorted(row["g"].items())),
            notes=(*found.notes, *([found.reason] if found.reason else [])),
        )

    def _rows(self, manifest: Manifest, model: str, benchmark: str) -> OutputRows:
        wanted = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model, benchmark)]
        if not any(e.generate is not None and e.problems for e in wanted):
            raise UnknownOutput(f"{manifest.experiment} has no outputs of {model} on {benchmark}")
        digests = (digest or "" for e in wanted for digest in (e.generate, e.grade if e.budgets else None))
        key = (manifest.experiment, manifest.uid8, model, benchmark, *digests)
        return self._kept.get(key, lambda: output_rows(manifest, self._store, model, benchmark))


def _code(grade: Mapping[str, Any] | None) -> str:
    letter = LETTERS.get(grade["v"]) if grade is not None else None
    if grade is None or letter is None:
        return "e"
    return letter if grade["c"] else letter.lower()


def _grade(budget: int, grade: Mapping[str, Any]) -> GradeShown:
    why = ", ".join(part.replace("_", " ") for part in (grade["w"], grade["i"]) if part)
    return GradeShown(budget, _code(grade), why, grade["a"], grade["e"])
