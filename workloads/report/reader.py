"""What the page's reader shows: every output with its verdicts, cut to fit and packed, apart from the page's markup.

Outputs are hostile text. They travel as base64 of gzip, so that no byte of them is ever parsed as HTML, and the page
shows them through `textContent` only.
"""

import base64
import gzip
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workloads.benchmarks import BenchmarkError
from workloads.benchmarks.load import load_file
from workloads.commit import Corrupt, first_problem, read_file, read_marker
from workloads.contents import ContentError, localise_file
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.manifest import Manifest, ManifestEvaluation
from workloads.contract.units import UnitRef
from workloads.results.manifest import FINISH_CODES, why_corrupt
from workloads.store import Store

PACKED_BYTES = 3_000_000
CUTS = (20_000, 8_000, 4_000, 2_000, 1_000, 500, 200)
"""Characters kept of an output, its answer and its evidence: the largest with which all fits PACKED_BYTES."""


@dataclass(frozen=True)
class Chunk:
    """One model on one benchmark, or a benchmark's problems: `packed` is base64 of gzip of JSON."""

    id: str
    model: str
    benchmark: str
    packed: str


@dataclass(frozen=True)
class Reading:
    """`cut` characters are kept of each output. `notes` say what is not shown, and why.

    `corrupt`: why, by id, of evaluations whose outputs or grades are not what was committed.
    """

    chunks: tuple[Chunk, ...]
    problems: tuple[Chunk, ...]
    cut: int
    notes: tuple[str, ...]
    corrupt: Mapping[str, str]


def reading(manifest: Manifest, store: Store) -> Reading:
    """Reads outputs and grades through their markers. Raises StoreError, and Corrupt for an unreadable marker."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    corrupt: dict[str, str] = {}
    for evaluation in manifest.evaluations:
        if evaluation.generate is not None and evaluation.problems:
            rows, reason = _rows(store, evaluation)
            if rows:
                groups.setdefault((evaluation.model, evaluation.benchmark), []).extend(rows)
            if reason is not None:
                corrupt[evaluation.id] = reason
    cut, packed = next((cut, packed) for cut in CUTS if (packed := _packed(groups, cut)) is not None)
    chunks = tuple(Chunk(f"o-{i}", model, name, text) for i, ((model, name), text) in enumerate(packed.items()))
    problems, notes = _problems(manifest, store)
    return Reading(chunks, problems, cut, notes, corrupt)


def _packed(groups: dict[tuple[str, str], list[dict[str, Any]]], cut: int) -> dict[tuple[str, str], str] | None:
    """None when it is too much, found out as early as can be; the smallest cut is taken whatever it makes."""
    found: dict[tuple[str, str], str] = {}
    size = 0
    for key, rows in groups.items():
        found[key] = pack([_cut(row, cut) for row in rows])
        size += len(found[key])
        if size > PACKED_BYTES and cut != CUTS[-1]:
            return None
    return found


def pack(value: object) -> str:
    """Deterministic: the same value gives the same text."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), 6, mtime=0)).decode()


def _rows(store: Store, evaluation: ManifestEvaluation) -> tuple[list[dict[str, Any]], str | None]:
    """What can be shown of an evaluation, and why not all of it."""
    assert evaluation.generate is not None
    graded: list[dict[str, Any]] = []
    reason = None
    try:
        rows = _lines(store, UnitRef(kind="generate", digest=evaluation.generate), layout.OUTPUTS, "outputs.jsonl")
    except Corrupt as error:
        return [], why_corrupt(error)
    if evaluation.grade is not None and evaluation.budgets:
        try:
            graded = _lines(store, UnitRef(kind="grade", digest=evaluation.grade), layout.GRADES, "grades.jsonl")
        except Corrupt as error:
            reason = why_corrupt(error)
    return _joined(rows, graded), reason


def _joined(rows: list[dict[str, Any]], graded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grades: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for grade in graded:
        grades.setdefault((grade["problem"], grade["index"]), {})[grade["budgetTokens"]] = {
            "v": grade["verdict"],
            "c": grade["completed"],
            "i": grade["incomplete"],
            "w": grade["cause"],
            "a": grade["answer"],
            "e": grade["evidence"],
        }
    return [
        {
            "p": row["problem"],
            "k": row["index"],
            "n": len(row["tokenIds"]),
            "f": FINISH_CODES[row["finishReason"]],
            "t": row["text"],
            "g": grades.get((row["problem"], row["index"]), {}),
        }
        for row in rows
    ]


def _lines(store: Store, unit: UnitRef, name: str, file: str) -> list[dict[str, Any]]:
    """Raises Corrupt when they are not what was committed, StoreError."""
    marker = read_marker(store, unit, name)
    if marker is None:
        raise Corrupt(f"marker {name} of {unit} is missing (key {layout.marker_key(unit, name)})")
    return [json.loads(line) for line in read_file(store, marker, file).splitlines() if line.strip()]


def _cut(row: dict[str, Any], cut: int) -> dict[str, Any]:
    grades = {
        budget: grade
        | {"a": grade["a"] if grade["a"] is None else shortened(grade["a"], cut)}
        | {"e": {name: _short_evidence(value, cut) for name, value in grade["e"].items()}}
        for budget, grade in row["g"].items()
    }
    return row | {"t": shortened(row["t"], cut), "g": grades}


def _short_evidence(value: object, cut: int) -> object:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= cut else shortened(text, cut)


def shortened(text: str, cut: int) -> str:
    """The beginning and the end, which holds the answer, and how much is left out between them."""
    if len(text) <= cut:
        return text
    head = cut // 3
    return f"{text[:head]}\n[... {len(text) - cut:,} characters left out ...]\n{text[head - cut :]}"


def _problems(manifest: Manifest, store: Store) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Each benchmark's problems as they are asked, where the file can be had. It is read again: it is no result."""
    key = layout.experiment_key(manifest.experiment, manifest.uid8)
    if store.head(key) is None:
        return (), ("The problems' texts are not shown: the store has no experiment.json.",)
    try:
        frozen = FrozenExperiment.model_validate_json(store.get(key))
    except ValidationError as error:
        return (), (f"The problems' texts are not shown: {key} cannot be read ({first_problem(error)}).",)
    chunks, notes = [], []
    for index, benchmark in enumerate(frozen.benchmarks):
        asked = {p for e in manifest.evaluations if e.benchmark == benchmark.name for p in e.problems}
        try:
            with tempfile.TemporaryDirectory() as folder:
                loaded = load_file(localise_file(benchmark.source, Path(folder)), benchmark.name, benchmark.grader)
        except (ContentError, BenchmarkError) as error:
            notes.append(f"The problems of {benchmark.name} are not shown: {error}.")
            continue
        texts = {problem.id: shortened(problem.prompt, 4_000) for problem in loaded.problems if problem.id in asked}
        chunks.append(Chunk(f"p-{index}", "", benchmark.name, pack(texts)))
    return tuple(chunks), tuple(notes)
