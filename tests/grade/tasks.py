"""A grading task of three small programs in a store, and its result."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.grade.tiny import byte_tokenizer, output, write_jsonl
from workloads.api import store_keys
from workloads.api.grades import Grade
from workloads.api.model import sha256_of
from workloads.api.records import GradesRecord, OutputsRecord
from workloads.api.tasks import FileSource, GradeMember, GradeTask, Owner
from workloads.api.units import GRADER_VERSION, EngineIdentity, GradeInputs, UnitRef, unit_of
from workloads.storage.base import Store
from workloads.storage.content_digest import hash_file
from workloads.storage.markers import commit_marker, fetch, read_marker

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RIGHT = "<think>easy</think>\n```python\ndef double(x):\n    return 2 * x\n```"
WRONG = RIGHT.replace("2 * x", "3 * x")


def code_task(
    store: Store, tmp_path: Path, grader_version: str = GRADER_VERSION, extra_tokens: tuple[str, ...] = ()
) -> GradeTask:
    """`extra_tokens` change its tokenizer and its first output."""
    benchmark = tmp_path / "doubles.jsonl"
    rows = [
        {"id": f"d{n}", "prompt": "double", "entry_point": "double", "asserts": "assert double(2) == 4"}
        for n in range(3)
    ]
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(extra_tokens))
    blob = tokenizer.to_str().encode()
    store.put_new(store_keys.blob_key(sha256_of(blob)), blob)
    texts = {
        "d0": RIGHT + "\n" * len(extra_tokens),
        "d1": WRONG,
        "d2": "<think>" + RIGHT.removeprefix("<think>easy</think>"),
    }
    outputs = [output(tokenizer, problem, text) for problem, text in texts.items()]
    generate = UnitRef(kind="generate", digest=sha256_of(repr(extra_tokens).encode()))
    record = OutputsRecord(
        engine=EngineIdentity(name="transformers", version="5", dtype="float32"),
        outputs=3,
        generated_tokens=sum(len(o.token_ids) for o in outputs),
        finish_reasons={"stop": 3},
        prompts_sha256="0" * 64,
        tokenizer_sha256=sha256_of(blob),
        seconds=1.0,
        versions={},
    )
    files = {"outputs.jsonl": write_jsonl(tmp_path / "outputs.jsonl", outputs)}
    marker = commit_marker(store, generate, 1, store_keys.OUTPUTS, files, record, now=NOW)
    inputs = GradeInputs(
        outputs_content=marker.content,
        benchmark_content=hash_file(benchmark),
        grader="code",
        completion="fenced",
        thinking=True,
        budgets=(20, 4096),
        grader_version=grader_version,
    )
    source = FileSource(location=str(benchmark), sha256=hash_file(benchmark))
    unit = unit_of(inputs)
    member = GradeMember(
        unit=unit, number=1, inputs=inputs, outputs=generate, benchmark=source, benchmark_name="doubles"
    )
    task = GradeTask(unit=unit, number=1, owner=Owner(experiment="e", uid8="0" * 8), created=NOW, members=(member,))
    store.put_new(task.key, task.to_json())
    return task


def grades_of(store: Store, task: GradeTask, into: Path) -> tuple[GradesRecord, list[Grade]]:
    marker = read_marker(store, task.unit, store_keys.GRADES)
    assert marker is not None
    assert isinstance(marker.record, GradesRecord)
    path = fetch(store, marker, ["grades.jsonl"], into)["grades.jsonl"]
    return marker.record, [Grade.model_validate_json(line) for line in path.read_text().splitlines()]
