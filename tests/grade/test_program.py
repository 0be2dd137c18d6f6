"""`python -m workloads.grade`: one process, or three steps, of which the one that runs programs has no access to the
store.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.grade.tasks import code_task, grades_of
from tests.grade.tiny import byte_tokenizer
from tests.tools.progress import Told
from workloads.api import store_keys
from workloads.api.grades import Grade
from workloads.api.records import ExitCode, Failure, GradesRecord, OutputsRecord, Progress
from workloads.api.tasks import GradeTask
from workloads.grade.__main__ import main
from workloads.grade.program import grade
from workloads.program import Context, run_program
from workloads.storage.base import Store, open_store
from workloads.storage.markers import read_marker

ROOT = Path(__file__).parents[2]


def _run(task: GradeTask, *arguments: str, store: Store | None) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    if store is not None:
        environment["POTSTILL_STORE"] = store.url
    command = [sys.executable, "-m", "workloads.grade", task.key, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


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
    assert record.versions["python"] == platform.python_version()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store((tmp_path / "store").as_uri())


@pytest.mark.slow
def test_one_process_grades_a_task_at_every_budget(store: Store, tmp_path: Path) -> None:
    task = code_task(store, tmp_path)
    _run(task, store=store)
    _check(*grades_of(store, task, tmp_path / "read"))


@pytest.mark.slow
def test_each_problem_is_reported_when_its_programs_have_run(store: Store, tmp_path: Path) -> None:
    task, told = code_task(store, tmp_path), Told()
    body = told.body(lambda context: grade(context, "all", None, 1))
    assert run_program(GradeTask, body, [task.key], {"POTSTILL_STORE": store.url}) == ExitCode.OK
    assert told.done(task.unit.digest) == [0, 1, 2, 3]
    assert {(progress.phase, progress.done, progress.total) for progress in told.progress} == {("grading", 0, 1)}


@pytest.mark.slow
def test_told_to_end_it_grades_no_further(store: Store, tmp_path: Path) -> None:
    task, told = code_task(store, tmp_path), Told()

    def body(context: Context[GradeTask]) -> None:
        class Ending(Told):
            def leave(self, progress: Progress) -> None:
                told.leave(progress)
                if progress.members[task.unit.digest] == 1:
                    context.terminated.set()

        grade(replace(context, courier=Ending()), "all", None, 1)

    assert run_program(GradeTask, body, [task.key], {"POTSTILL_STORE": store.url}) == ExitCode.TERMINATED
    assert told.done(task.unit.digest) == [0, 1]
    assert read_marker(store, task.unit, store_keys.GRADES) is None


@pytest.mark.slow
def test_three_steps_give_the_same_and_the_one_that_executes_knows_no_store_and_no_gold(
    store: Store, tmp_path: Path
) -> None:
    task = code_task(store, tmp_path)
    work = tmp_path / "work"
    _run(task, "--step", "fetch", "--work", str(work), store=store)
    shared = "".join(path.read_text() for path in work.rglob("*.jsonl"))
    assert "double(x)" in shared
    assert "expected" not in shared
    _run(task, "--step", "execute", "--work", str(work), store=None)
    _run(task, "--step", "compare", "--work", str(work), store=store)
    _check(*grades_of(store, task, tmp_path / "read"))
    progress = Progress.model_validate_json(store.get(store_keys.progress_key(task.unit, 1)))
    assert progress.members == {task.unit.digest: 3}


@pytest.mark.slow
def test_files_of_the_executing_step_are_not_trusted(store: Store, tmp_path: Path) -> None:
    task = code_task(store, tmp_path)
    work = tmp_path / "work"
    _run(task, "--step", "fetch", "--work", str(work), store=store)
    outcomes = work / "outcomes" / f"{task.unit.digest}.jsonl"
    outcomes.parent.mkdir()
    keys = [json.loads(line)["key"] for line in (work / "orders" / outcomes.name).read_text().splitlines()]
    lies = ["not json", "[" * 100_000, json.dumps({"key": keys[0], "passed": True}), json.dumps({"verdict": "right"})]
    outcomes.write_text("\n".join(lies))
    _run(task, "--step", "compare", "--work", str(work), store=store)
    _, grades = grades_of(store, task, tmp_path / "read")
    assert {g.verdict for g in grades if g.budget_tokens == 4096} == {"infra_error"}
    assert {g.cause for g in grades if g.budget_tokens == 4096} == {"not_executed"}


def test_verdicts_of_another_grader_version_are_not_given_under_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = code_task(store, tmp_path, grader_version="grade-0")
    monkeypatch.setenv("POTSTILL_STORE", store.url)
    assert main([task.key]) == ExitCode.BAD_CONFIGURATION
    failure = Failure.model_validate_json(store.get(store_keys.failure_key(task.unit, 1)))
    assert failure.reason == "OtherVersion"
    assert "grade-0" in failure.message
    assert read_marker(store, task.unit, store_keys.GRADES) is None


def _harm(store: Store, task: GradeTask, data: bytes | None) -> str:
    """Damages (or, without `data`, deletes) the tokenizer of the task's outputs. Returns its key."""
    marker = read_marker(store, task.members[0].outputs, store_keys.OUTPUTS)
    assert marker is not None
    assert isinstance(marker.record, OutputsRecord)
    key = store_keys.blob_key(marker.record.tokenizer_sha256)
    if data is None:
        store.delete(key)
    else:
        store.put(key, data)
    return key


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
def test_a_damaged_or_lost_tokenizer_fails_its_own_evaluation_and_the_group_is_graded(
    store: Store, tmp_path: Path, lost: bool
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    bad, good = code_task(store, tmp_path / "a", extra_tokens=("<a>",)), code_task(store, tmp_path / "b")
    swapped = byte_tokenizer().to_str().replace('"1":', '"~":').encode()
    key = _harm(store, bad, None if lost else swapped)
    members = (bad.members[0], good.members[0].model_copy(update={"number": 2}))
    task = bad.model_copy(update={"number": 2, "members": (members[0].model_copy(update={"number": 2}), members[1])})
    store.put_new(task.key, task.to_json())
    _run(task, store=store)
    failure = Failure.model_validate_json(store.get(store_keys.failure_key(bad.unit, 2)))
    assert (failure.reason, failure.exit_code) == ("CorruptFiles", ExitCode.BAD_DATA)
    assert f"the outputs' tokenizer {key} is {'missing' if lost else 'damaged'}" in failure.message
    assert "tokenizer.json" in failure.message
    assert read_marker(store, bad.unit, store_keys.GRADES) is None
    _check(*grades_of(store, good, tmp_path / "read"))
