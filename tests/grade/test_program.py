"""`python -m workloads.grade`: one process, or three steps of which the one that runs programs knows no store."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.grade.tiny import byte_tokenizer, output, write_jsonl
from tests.tools.progress import Told
from workloads.commit import fetch, publish, read_marker
from workloads.contents import hash_file
from workloads.contract import layout
from workloads.contract.grades import Grade
from workloads.contract.model import sha256_of
from workloads.contract.records import ExitCode, Failure, GradesRecord, OutputsRecord, Progress
from workloads.contract.tasks import FileSource, GradeMember, GradeTask, Owner
from workloads.contract.units import GRADER_VERSION, Engine, GradeInputs, UnitRef, unit_of
from workloads.grade.__main__ import main
from workloads.grade.program import grade
from workloads.program import Context, run_program
from workloads.store import Store, open_store

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
RIGHT = "<think>easy</think>\n```python\ndef double(x):\n    return 2 * x\n```"
WRONG = RIGHT.replace("2 * x", "3 * x")


def _code_task(store: Store, tmp_path: Path, grader_version: str = GRADER_VERSION) -> GradeTask:
    benchmark = tmp_path / "doubles.jsonl"
    rows = [
        {"id": f"d{n}", "prompt": "double", "entry_point": "double", "asserts": "assert double(2) == 4"}
        for n in range(3)
    ]
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = byte_tokenizer()
    blob = tokenizer.to_str().encode()
    store.put_new(layout.blob_key(sha256_of(blob)), blob)
    texts = {"d0": RIGHT, "d1": WRONG, "d2": "<think>" + RIGHT.removeprefix("<think>easy</think>")}
    outputs = [output(tokenizer, problem, text) for problem, text in texts.items()]
    generate = UnitRef(kind="generate", digest="a" * 64)
    record = OutputsRecord(
        engine=Engine(name="transformers", version="5", dtype="float32"),
        outputs=3,
        generated_tokens=sum(len(o.token_ids) for o in outputs),
        finish_reasons={"stop": 3},
        prompts_sha256="0" * 64,
        tokenizer_sha256=sha256_of(blob),
        seconds=1.0,
        versions={},
    )
    files = {"outputs.jsonl": write_jsonl(tmp_path / "outputs.jsonl", outputs)}
    marker = publish(store, generate, 1, layout.OUTPUTS, files, record, now=NOW)
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


def _run(task: GradeTask, *arguments: str, store: Store | None) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    if store is not None:
        environment["POTSTILL_STORE"] = store.url
    command = [sys.executable, "-m", "workloads.grade", task.key, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _grades(store: Store, task: GradeTask, into: Path) -> tuple[GradesRecord, list[Grade]]:
    marker = read_marker(store, task.unit, layout.GRADES)
    assert marker is not None
    assert isinstance(marker.record, GradesRecord)
    path = fetch(store, marker, ["grades.jsonl"], into)["grades.jsonl"]
    return marker.record, [Grade.model_validate_json(line) for line in path.read_text().splitlines()]


def _check(record: GradesRecord, grades: list[Grade]) -> None:
    short, whole = record.budgets
    assert (short.budget, short.right, short.completed, short.no_answer) == (20, 0, 0, 3)
    assert (whole.budget, whole.right, whole.completed, whole.right_and_completed, whole.wrong) == (4096, 2, 2, 1, 1)
    assert whole.causes == {"failing_test": 1, "unclosed_think": 1}
    by_problem = {g.problem: g for g in grades if g.budget_tokens == 4096}
    assert by_problem["d0"].completed
    assert by_problem["d0"].verdict == "right"
    assert by_problem["d1"].evidence["returned"] == "6"
    assert by_problem["d1"].evidence["expected"] == "4"
    assert by_problem["d2"].verdict == "right"
    assert by_problem["d2"].incomplete == "unclosed_think"
    assert "seccomp" in record.sandbox


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store((tmp_path / "store").as_uri())


@pytest.mark.slow
def test_one_process_grades_a_task_at_every_budget(store: Store, tmp_path: Path) -> None:
    task = _code_task(store, tmp_path)
    _run(task, store=store)
    _check(*_grades(store, task, tmp_path / "read"))


@pytest.mark.slow
def test_each_problem_is_told_of_as_its_programs_have_run(store: Store, tmp_path: Path) -> None:
    task, told = _code_task(store, tmp_path), Told()
    body = told.body(lambda context: grade(context, "all", None, 1))
    assert run_program(GradeTask, body, [task.key], {"POTSTILL_STORE": store.url}) == ExitCode.OK
    assert told.done(task.unit.digest) == [0, 1, 2, 3]
    assert {(progress.done, progress.total) for progress in told.progress} == {(0, 1)}


@pytest.mark.slow
def test_told_to_end_it_grades_no_further(store: Store, tmp_path: Path) -> None:
    task, told = _code_task(store, tmp_path), Told()

    def body(context: Context[GradeTask]) -> None:
        def leave(progress: Progress) -> None:
            told.progress.append(progress)
            if progress.members[task.unit.digest] == 1:
                context.terminated.set()

        courier = SimpleNamespace(leave=leave)
        grade(replace(context, _courier=courier), "all", None, 1)  # type: ignore[arg-type]

    assert run_program(GradeTask, body, [task.key], {"POTSTILL_STORE": store.url}) == ExitCode.TERMINATED
    assert told.done(task.unit.digest) == [0, 1]
    assert read_marker(store, task.unit, layout.GRADES) is None


@pytest.mark.slow
def test_three_steps_give_the_same_and_the_one_that_executes_knows_no_store_and_no_gold(
    store: Store, tmp_path: Path
) -> None:
    task = _code_task(store, tmp_path)
    work = tmp_path / "work"
    _run(task, "--step", "fetch", "--work", str(work), store=store)
    shared = "".join(path.read_text() for path in work.rglob("*.jsonl"))
    assert "double(x)" in shared
    assert "expected" not in shared
    _run(task, "--step", "execute", "--work", str(work), store=None)
    _run(task, "--step", "compare", "--work", str(work), store=store)
    _check(*_grades(store, task, tmp_path / "read"))
    progress = Progress.model_validate_json(store.get(layout.progress_key(task.unit, 1)))
    assert progress.members == {task.unit.digest: 3}


@pytest.mark.slow
def test_what_the_executing_step_leaves_is_not_believed(store: Store, tmp_path: Path) -> None:
    task = _code_task(store, tmp_path)
    work = tmp_path / "work"
    _run(task, "--step", "fetch", "--work", str(work), store=store)
    outcomes = work / "outcomes" / f"{task.unit.digest}.jsonl"
    outcomes.parent.mkdir()
    keys = [json.loads(line)["key"] for line in (work / "orders" / outcomes.name).read_text().splitlines()]
    lies = ["not json", "[" * 100_000, json.dumps({"key": keys[0], "passed": True}), json.dumps({"verdict": "right"})]
    outcomes.write_text("\n".join(lies))
    _run(task, "--step", "compare", "--work", str(work), store=store)
    _, grades = _grades(store, task, tmp_path / "read")
    assert {g.verdict for g in grades if g.budget_tokens == 4096} == {"infra_error"}
    assert {g.cause for g in grades if g.budget_tokens == 4096} == {"not_executed"}


def test_verdicts_of_another_grader_version_are_not_given_under_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _code_task(store, tmp_path, grader_version="grade-0")
    monkeypatch.setenv("POTSTILL_STORE", store.url)
    assert main([task.key]) == ExitCode.BAD_CONFIGURATION
    failure = Failure.model_validate_json(store.get(layout.failure_key(task.unit, 1)))
    assert failure.reason == "OtherVersion"
    assert "grade-0" in failure.message
    assert read_marker(store, task.unit, layout.GRADES) is None
