"""A program with the interface of the real ones that does no work: it commits a task's results with a few bytes.

    POTSTILL_STORE=<url> python tiny_program.py <folder> <task key>

Files in `folder`, named after the unit kind, control it: with `<kind>.exit` it exits at once with the code in the file;
with `<kind>.hold` it waits until the file is deleted or SIGTERM comes; with `<kind>.half` it waits in the same way,
after it has reported that each member is half done; with `<kind>.deaf` it ignores SIGTERM. Each start is a file in
folder/starts.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from workloads.api import store_keys
from workloads.api.model import sha256_of
from workloads.api.records import (
    BudgetCounts,
    CheckpointRecord,
    GradesRecord,
    OutputsRecord,
    Progress,
    Record,
    ReportRecord,
    TrainRecord,
)
from workloads.api.tasks import (
    GenerateMember,
    GenerateTask,
    GradeMember,
    GradeTask,
    ReportTask,
    RunnableTask,
    TrainTask,
    parse_task,
)
from workloads.api.units import UnitRef
from workloads.storage.base import Store, open_store
from workloads.storage.markers import commit_marker, read_marker


def commit(store: Store, unit: UnitRef, number: int, name: str, files: dict[str, str], record: Record) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for file, text in files.items():
            paths[file] = Path(folder) / file
            paths[file].write_text(text)
        commit_marker(store, unit, number, name, paths, record, now=datetime.now(UTC))


def train(store: Store, task: TrainTask) -> None:
    total = len(task.inputs.checkpoints)
    for done, samples in enumerate(task.inputs.checkpoints, 1):
        step = samples // task.inputs.batch_size
        files = {"adapter_model.safetensors": f"{task.inputs.data_content} {samples}", "adapter_config.json": "{}"}
        record = CheckpointRecord(samples=samples, step=step)
        commit(store, task.unit, task.number, store_keys.checkpoint_marker(samples), files, record)
        progress = Progress(
            attempt=task.number,
            updated=datetime.now(UTC),
            phase="training",
            done=done,
            total=total,
            counted="steps",
            loss=1.0 / done,
        )
        store.put(store_keys.progress_key(task.unit, task.number), progress.to_json())
    trained = TrainRecord(
        samples=task.inputs.samples,
        steps=task.inputs.samples // task.inputs.batch_size,
        data=None,
        final_loss=1.0,
        train_seconds=1.0,
        tokens_per_second=1.0,
        device="cpu",
        devices=1,
        versions={},
    )
    metrics = {"step": 1, "samples": 50, "loss": 1.0, "learningRate": 1e-4}
    commit(store, task.unit, task.number, store_keys.DONE, {"metrics.jsonl": json.dumps(metrics) + "\n"}, trained)


def generate(store: Store, member: GenerateMember) -> None:
    if read_marker(store, member.unit, store_keys.OUTPUTS) is not None:
        return
    rows = [
        {
            "problem": problem,
            "promptSha256": sha256_of(problem.encode()),
            "promptTokens": 3,
            "tokenIds": [1, 2, 3],
            "text": "4",
            "finishReason": "stop",
        }
        for problem in member.inputs.problems
    ]
    record = OutputsRecord(
        engine=member.inputs.engine,
        outputs=len(rows),
        generated_tokens=3 * len(rows),
        finish_reasons={"stop": len(rows)},
        prompts_sha256=sha256_of(b"prompts"),
        tokenizer_sha256=sha256_of(b"tokenizer"),
        seconds=1.0,
        versions={},
    )
    model = member.inputs.model.adapter or member.inputs.model.base
    text = "".join(json.dumps(row | {"text": model}) + "\n" for row in rows)
    commit(store, member.unit, member.number, store_keys.OUTPUTS, {"outputs.jsonl": text}, record)


def grade(store: Store, member: GradeMember) -> None:
    outputs = read_marker(store, member.outputs, store_keys.OUTPUTS)
    assert outputs is not None
    rows = [json.loads(line) for line in store.get(outputs.files[0].key).splitlines()]
    grades = [
        {
            "problem": row["problem"],
            "budgetTokens": budget,
            "tokens": 3,
            "ended": True,
            "completed": True,
            "verdict": "right",
        }
        for row in rows
        for budget in member.inputs.budgets
    ]
    counts = tuple(
        BudgetCounts(
            budget=budget,
            outputs=len(rows),
            completed=len(rows),
            right=len(rows),
            right_and_completed=len(rows),
            wrong=0,
            no_answer=0,
            errors=0,
            causes={},
        )
        for budget in member.inputs.budgets
    )
    record = GradesRecord(budgets=counts, grader_version=member.inputs.grader_version, seconds=1.0, versions={})
    text = "".join(json.dumps(one) + "\n" for one in grades)
    commit(store, member.unit, member.number, store_keys.GRADES, {"grades.jsonl": text}, record)


def work(store: Store, task: RunnableTask) -> None:
    match task:
        case TrainTask():
            train(store, task)
        case GenerateTask():
            for member in task.members:
                generate(store, member)
        case GradeTask():
            for graded in task.members:
                grade(store, graded)
        case ReportTask():
            record = ReportRecord(
                manifest_sha256=task.inputs.manifest_content, report_version=task.inputs.report_version
            )
            commit(store, task.unit, task.number, store_keys.REPORT, {"report.md": "# Report\n"}, record)


def half_done(store: Store, task: RunnableTask) -> None:
    assert isinstance(task, GenerateTask | GradeTask)
    progress = Progress(
        attempt=task.number,
        updated=datetime.now(UTC),
        phase="half done",
        done=1,
        total=2,
        counted="outputs",
        members={member.unit.digest: 1 for member in task.members},
    )
    store.put(store_keys.progress_key(task.unit, task.number), progress.to_json())


def main(folder: Path, key: str) -> int:
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    store = open_store(os.environ["POTSTILL_STORE"])
    task = parse_task(store.get(key))
    assert task.type != "member"
    starts = folder / "starts"
    starts.mkdir(exist_ok=True)
    (starts / f"{time.time_ns()}-{key.replace('/', '-')}-{os.getpid()}").touch()
    deaf = (folder / f"{task.type}.deaf").exists()
    if (folder / f"{task.type}.half").exists():
        half_done(store, task)
    while any((folder / f"{task.type}.{what}").exists() for what in ("hold", "half")) and (
        deaf or not terminated.is_set()
    ):
        time.sleep(0.01)
    if terminated.is_set() and not deaf:
        return 15
    exit_file = folder / f"{task.type}.exit"
    if exit_file.exists():
        return int(exit_file.read_text())
    work(store, task)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
