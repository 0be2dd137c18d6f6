"""The data of the page's output browser: every output with its prompt and verdicts, shortened to fit, and compressed.

Outputs, problems and prompts are hostile text. The page contains them as base64 of gzip, so that none of it is ever
parsed as HTML, and shows them only through `textContent`.
"""

import base64
import gzip
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from workloads.api import store_keys
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment
from workloads.api.manifest import Manifest, ManifestEvaluation
from workloads.api.records import Marker, OutputsRecord
from workloads.api.units import UnitRef
from workloads.report.accepted import AcceptedExperiment, accepted
from workloads.report.prompts import Asked, prompts, stored_tokenizers
from workloads.results.manifest import FINISH_CODES, why_corrupt
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN
from workloads.storage.base import Store
from workloads.storage.markers import Corrupt, first_problem, read_file, read_marker

logger = logging.getLogger("potstill")

PACKED_BYTES = 3_000_000
CUTS = (20_000, 8_000, 4_000, 2_000, 1_000, 500, 200)
"""Allowed lengths of an output, its answer and its evidence in characters; the largest one that fits PACKED_BYTES is
used.
"""
PROBLEM_CHARACTERS, PROMPT_CHARACTERS = 4_000, 8_000
"""Characters of a problem's text and of a prompt."""
NO_PROBLEMS = "Problems and prompts are not shown: the store has no experiment.json that can be read."


@dataclass(frozen=True)
class Chunk:
    """One model on one benchmark, or a benchmark's problems: `packed` is base64 of gzip of JSON."""

    id: str
    model: str
    benchmark: str
    packed: str


@dataclass(frozen=True)
class OutputPages:
    """`cut`: characters of each output. `notes`: what is not shown, and why.

    `corrupt`: the reason, by id, for evaluations with damaged outputs or grades. `accepted`: None if the store has no
    experiment.json.
    """

    chunks: tuple[Chunk, ...]
    problems: tuple[Chunk, ...]
    cut: int
    notes: tuple[str, ...]
    corrupt: Mapping[str, str]
    accepted: AcceptedExperiment | None


@dataclass(frozen=True)
class OutputRows:
    """All outputs of one model on one benchmark. They are hostile text.

    Each row has `p` problem, `k` index, `n` tokens, `f` its end (one of FINISH_CODES), `t` text, `s` SHA-256 of the
    prompt, and `g` grades by budget. `questions`: text by problem id. `prompts`: as they were sent, by their SHA-256.
    `notes`: what is not shown, and why. `reason`: why not all outputs or grades could be read.
    """

    rows: tuple[dict[str, Any], ...]
    questions: Mapping[str, str]
    prompts: Mapping[str, str]
    notes: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True)
class _Read:
    """The stored data of one evaluation. `reason`: why not all of it can be shown."""

    rows: list[dict[str, Any]]
    tokenizer_sha256: str | None = None
    last_result: datetime | None = None
    reason: str | None = None


def reading(manifest: Manifest, store: Store) -> OutputPages:
    """Reads outputs and grades through their markers. Raises StoreError, and Corrupt for an unreadable marker."""
    found = {e.id: _read(store, e) for e in manifest.evaluations if e.generate is not None and e.problems}
    frozen = _frozen(manifest, store)
    questions = _questions(manifest, found, frozen, store)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for evaluation in manifest.evaluations:
        if evaluation.id in found and (rows := found[evaluation.id].rows):
            name = evaluation.benchmark
            numbered = [row | {"s": questions.places.get((name, row["p"], row["s"]))} for row in rows]
            groups.setdefault((evaluation.model, name), []).extend(numbered)
    cut, packed = next((cut, packed) for cut in CUTS if (packed := _packed(groups, cut)) is not None)
    return OutputPages(
        chunks=tuple(Chunk(f"o-{i}", model, name, text) for i, ((model, name), text) in enumerate(packed.items())),
        problems=questions.chunks,
        cut=cut,
        notes=questions.notes,
        corrupt={name: one.reason for name, one in found.items() if one.reason is not None},
        accepted=accepted(frozen, _last_result(manifest, found.values(), store)) if frozen is not None else None,
    )


def output_rows(manifest: Manifest, store: Store, model: str, benchmark: str) -> OutputRows:
    """Raises StoreError. Damaged outputs are left out, and `reason` says so."""
    wanted = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model, benchmark)]
    found = {e.id: _read(store, e) for e in wanted if e.generate is not None and e.problems}
    rows = tuple(row for read in found.values() for row in read.rows)
    reason = "; ".join(dict.fromkeys(read.reason for read in found.values() if read.reason is not None)) or None
    frozen = _frozen(manifest, store)
    own = next((item for item in frozen.benchmarks if item.name == benchmark), None) if frozen is not None else None
    if own is None:
        return OutputRows(rows, {}, {}, (NO_PROBLEMS,), reason)
    made = prompts(own, tuple(dict.fromkeys(_asked(manifest, own, found))), stored_tokenizers(store))
    return OutputRows(rows, made.problems, made.sent, made.notes, reason)


def _frozen(manifest: Manifest, store: Store) -> FrozenExperiment | None:
    """Returns None if the store has none, or none that this version can read."""
    key = store_keys.experiment_key(manifest.experiment, manifest.uid8)
    if store.head(key) is None:
        return None
    try:
        return FrozenExperiment.model_validate_json(store.get(key))
    except ValidationError as error:
        logger.warning("%s cannot be read: %s", key, first_problem(error))
        return None


def _last_result(manifest: Manifest, found: Iterable[_Read], store: Store) -> datetime | None:
    """Returns when the last training, generation or grading was committed."""
    units = [TRAIN.unit(run.digest) for run in manifest.runs if run.state == "done"]
    trained = [marker.created for unit in units if (marker := read_marker(store, unit, store_keys.DONE)) is not None]
    return max([*trained, *(one.last_result for one in found if one.last_result is not None)], default=None)


def _packed(groups: dict[tuple[str, str], list[dict[str, Any]]], cut: int) -> dict[tuple[str, str], str] | None:
    """Returns None as soon as the size is too large. The smallest length is used for any size."""
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


def _read(store: Store, evaluation: ManifestEvaluation) -> _Read:
    assert evaluation.generate is not None
    unit = GENERATE.unit(evaluation.generate)
    try:
        outputs = _marker(store, unit, store_keys.OUTPUTS)
        rows = _lines(store, outputs, "outputs.jsonl")
    except Corrupt as error:
        return _Read([], reason=why_corrupt(error))
    tokenizer = outputs.record.tokenizer_sha256 if isinstance(outputs.record, OutputsRecord) else None
    if evaluation.grade is None or not evaluation.budgets:
        return _Read(_joined(rows, []), tokenizer, outputs.created)
    try:
        grades = _marker(store, GRADE.unit(evaluation.grade), store_keys.GRADES)
        graded = _lines(store, grades, "grades.jsonl")
    except Corrupt as error:
        return _Read(_joined(rows, []), tokenizer, outputs.created, why_corrupt(error))
    return _Read(_joined(rows, graded), tokenizer, max(outputs.created, grades.created))


def _joined(rows: list[dict[str, Any]], graded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grades: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for grade in graded:
        grades.setdefault((grade["problem"], grade.get("index", 0)), {})[grade["budgetTokens"]] = {
            "v": grade["verdict"],
            "c": grade["completed"],
            "i": grade.get("incomplete"),
            "w": grade.get("cause"),
            "a": grade.get("answer"),
            "e": grade.get("evidence", {}),
        }
    return [
        {
            "p": row["problem"],
            "k": row.get("index", 0),
            "n": len(row["tokenIds"]),
            "f": FINISH_CODES[row["finishReason"]],
            "t": row["text"],
            "s": row["promptSha256"],
            "g": grades.get((row["problem"], row.get("index", 0)), {}),
        }
        for row in rows
    ]


def _marker(store: Store, unit: UnitRef, name: str) -> Marker:
    """Raises Corrupt if there is none, StoreError."""
    marker = read_marker(store, unit, name)
    if marker is None:
        raise Corrupt(f"marker {name} of {unit} is missing (key {store_keys.marker_key(unit, name)})")
    return marker


def _lines(store: Store, marker: Marker, file: str) -> list[dict[str, Any]]:
    """Raises Corrupt if they differ from the committed ones, StoreError."""
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
    """Returns the beginning and the end, which has the answer, and the number of characters between them."""
    if len(text) <= cut:
        return text
    head = cut // 3
    return f"{text[:head]}\n[... {len(text) - cut:,} characters left out ...]\n{text[head - cut :]}"


@dataclass(frozen=True)
class _Questions:
    """A chunk for each benchmark: by problem id its text `q` and its prompts `p`.

    `places`: the index in `p` by (benchmark, problem, hash of the prompt's token ids).
    """

    chunks: tuple[Chunk, ...]
    places: Mapping[tuple[str, str, str], int]
    notes: tuple[str, ...]


def _questions(
    manifest: Manifest, found: Mapping[str, _Read], frozen: FrozenExperiment | None, store: Store
) -> _Questions:
    if frozen is None:
        return _Questions((), {}, (NO_PROBLEMS,))
    tokenizers = stored_tokenizers(store)
    chunks: list[Chunk] = []
    places: dict[tuple[str, str, str], int] = {}
    notes: list[str] = []
    for index, benchmark in enumerate(frozen.benchmarks):
        asked = tuple(dict.fromkeys(_asked(manifest, benchmark, found)))
        made = prompts(benchmark, asked, tokenizers)
        notes += made.notes
        texts: dict[str, dict[str, Any]] = {
            problem: {"q": shortened(text, PROBLEM_CHARACTERS), "p": []} for problem, text in made.problems.items()
        }
        for question in asked:
            key = (benchmark.name, question.problem, question.prompt_sha256)
            if question.prompt_sha256 in made.sent and key not in places:
                listed = texts[question.problem]["p"]
                places[key] = len(listed)
                listed.append(shortened(made.sent[question.prompt_sha256], PROMPT_CHARACTERS))
        chunks.append(Chunk(f"p-{index}", "", benchmark.name, pack(texts)))
    return _Questions(tuple(chunks), places, tuple(notes))


def _asked(manifest: Manifest, benchmark: FrozenBenchmark, found: Mapping[str, _Read]) -> Iterable[Asked]:
    runs = {model.id: model.run for model in manifest.models}
    for evaluation in manifest.evaluations:
        read = found.get(evaluation.id)
        if evaluation.benchmark == benchmark.name and read is not None and read.tokenizer_sha256 is not None:
            run = runs[evaluation.model]
            prompting = benchmark.base_prompting if run is None else benchmark.trained_prompting[run]
            for row in read.rows:
                yield Asked(row["p"], prompting, row["s"], read.tokenizer_sha256)
