"""The frame of programs: exit codes, the files of an attempt, signals, an unreachable store."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tools.processes import wait_until
from tests.tools.s3 import FaultProxy, S3Server
from workloads.api import store_keys
from workloads.api.records import Failure, Progress
from workloads.api.tasks import ImportTask, MemberPointer, ModelSource, Owner
from workloads.api.units import ExternalInputs, unit_of
from workloads.attempt_log import CUT, TAIL_CHARACTERS, AttemptLog
from workloads.progress import Courier
from workloads.storage.base import Store, StoreError, open_store
from workloads.storage.markers import read_marker

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 2, 16, tzinfo=UTC)
INPUTS = ExternalInputs(base_content="hub:base@0", source="elsewhere")
UNIT = unit_of(INPUTS)
OWNER = Owner(experiment="e", uid8="00000000")
TASK = ImportTask(
    unit=UNIT,
    number=1,
    owner=OWNER,
    created=NOW,
    inputs=INPUTS,
    base=ModelSource(location="/base", content="c"),
    location="/elsewhere",
)


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    """A directory store that holds the task."""
    store = open_store((tmp_path / "store").as_uri())
    store.put_new(TASK.key, TASK.to_json())
    return store


def start(url: str, do: str, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.frame", *(arguments or (TASK.key,))],
        env={**os.environ, "POTSTILL_STORE": url, "DO": do, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run(url: str, do: str, *arguments: str) -> tuple[int, str]:
    """Returns the exit code and stderr."""
    process = start(url, do, *arguments)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def until_waiting(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "waiting\n"


def failure(store: Store) -> Failure:
    return Failure.model_validate_json(store.get(store_keys.failure_key(UNIT, 1)))


@pytest.mark.slow
def test_a_program_that_is_done_leaves_its_results_log_and_last_progress(disk: Store) -> None:
    code, told = run(disk.url, "commit")
    assert code == 0
    assert read_marker(disk, UNIT, "checkpoint-000000001")
    assert Progress.model_validate_json(disk.get(store_keys.progress_key(UNIT, 1))).done == 3
    assert disk.get(store_keys.log_key(UNIT, 1)).decode() == told
    assert "the body runs" in told
    assert disk.head(store_keys.failure_key(UNIT, 1)) is None


@pytest.mark.parametrize(
    ("do", "code", "reason", "message"),
    [
        ("superseded", 12, "Superseded", "attempt 1 stands"),
        ("corrupt", 11, "CorruptFiles", "weights is missing"),
        ("store", 16, "StoreUnavailable", "s3://lab/x: cannot read it"),
        ("bad data", 11, "TooShort", "line 7 is empty"),
        ("crash", 1, "ZeroDivisionError", "by the ß"),
        ("exit", 1, "SystemExit", "0"),
    ],
)
@pytest.mark.slow
def test_an_exception_becomes_an_exit_code_and_a_failure(
    disk: Store, do: str, code: int, reason: str, message: str
) -> None:
    assert run(disk.url, do)[0] == code
    left = failure(disk)
    assert (left.exit_code, left.reason, left.message) == (code, reason, message)
    assert left.member == ("b" * 64 if do == "bad data" else None)
    assert (left.traceback is not None) == (code == 1)
    assert reason in disk.get(store_keys.log_key(UNIT, 1)).decode()


@pytest.mark.slow
def test_a_task_that_is_not_there_is_bad_configuration(disk: Store) -> None:
    code, told = run(disk.url, "commit", store_keys.task_key(UNIT, 2))
    assert (code, "there is no such task" in told) == (10, True)


@pytest.mark.slow
def test_a_members_pointer_is_not_run(disk: Store) -> None:
    pointer = MemberPointer(unit=UNIT, number=2, owner=OWNER, created=NOW, lead=UNIT, lead_number=1)
    disk.put_new(pointer.key, pointer.to_json())
    code, told = run(disk.url, "commit", pointer.key)
    assert (code, "holds a member task" in told) == (10, True)


@pytest.mark.slow
def test_a_task_of_an_unknown_version_is_not_acted_on(disk: Store) -> None:
    key = store_keys.task_key(UNIT, 2)
    disk.put_new(key, TASK.to_json().replace(b'"schemaVersion":1', b'"schemaVersion":2'))
    code, told = run(disk.url, "commit", key)
    assert (code, "schemaVersion" in told) == (10, True)


@pytest.mark.slow
def test_a_task_under_another_key_is_not_acted_on(disk: Store) -> None:
    disk.put_new(store_keys.task_key(UNIT, 2), TASK.to_json())
    code, told = run(disk.url, "commit", store_keys.task_key(UNIT, 2))
    assert (code, "not a ImportTask of its key" in told) == (10, True)


@pytest.mark.slow
def test_no_store_is_bad_configuration(disk: Store) -> None:
    assert run("", "commit")[0] == 10
    assert run("ftp://host/x", "commit")[0] == 10


@pytest.mark.slow
def test_sigterm_lets_the_program_save_first(disk: Store) -> None:
    process = start(disk.url, "wait, then save")
    until_waiting(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 15
    assert read_marker(disk, UNIT, "checkpoint-000000001")
    assert failure(disk).reason == "Terminated"


@pytest.mark.slow
def test_a_second_signal_ends_a_program_that_does_not_listen(disk: Store) -> None:
    process = start(disk.url, "be stuck")
    until_waiting(process)
    assert process.stderr
    process.send_signal(signal.SIGINT)
    while "SIGINT: ending" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 15


@pytest.mark.slow
def test_the_progress_names_the_model_that_was_being_loaded_at_a_sigkill(disk: Store) -> None:
    assert run(disk.url, "load and die")[0] == -9
    assert Progress.model_validate_json(disk.get(store_keys.progress_key(UNIT, 1))).loading == "b" * 64


@pytest.mark.s3
@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_is_waited_for(server: S3Server, faults: FaultProxy, tmp_path: Path) -> None:
    store = open_store(f"s3://lab/{tmp_path.name}")
    store.put_new(TASK.key, TASK.to_json())
    process = start(store.url, "commit when told", environment={"POTSTILL_S3_ENDPOINT": faults.url})
    until_waiting(process)
    faults.cut()
    assert process.stdin
    process.stdin.write("now\n")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    faults.heal()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert read_marker(store, UNIT, "checkpoint-000000001")


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_store_that_stays_unreachable_has_its_own_exit_code(
    server: S3Server, faults: FaultProxy, tmp_path: Path, from_the_start: bool
) -> None:
    store = open_store(f"s3://lab/{tmp_path.name}")
    store.put_new(TASK.key, TASK.to_json())
    short = {"POTSTILL_S3_ENDPOINT": faults.url, "POTSTILL_STORE_DEADLINE_SECONDS": "0.5"}
    if from_the_start:
        faults.cut()
    process = start(store.url, "commit when told", environment=short)
    if not from_the_start:
        until_waiting(process)
        faults.cut()
    _, told = process.communicate("now\n", timeout=60)
    assert process.returncode == 16
    assert "StoreUnavailable" in told


class Writes:
    """A store that only remembers what was put, and can be unreachable."""

    def __init__(self) -> None:
        self.put_keys: list[str] = []
        self.last: dict[str, bytes] = {}
        self.away = False

    def put(self, key: str, data: bytes) -> None:
        if self.away:
            raise StoreError("away")
        self.put_keys.append(key)
        self.last[key] = data


def step(done: int, loading: str | None = None) -> Progress:
    return Progress(attempt=1, updated=NOW, phase="train", done=done, total=1000, counted="steps", loading=loading)


def test_progress_is_written_seldom_and_the_last_one_always() -> None:
    writes = Writes()
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600) as courier:  # type: ignore[arg-type]
        for done in range(1000):
            courier.leave(step(done))
    assert 1 <= writes.put_keys.count(store_keys.progress_key(UNIT, 1)) <= 3
    assert Progress.model_validate_json(writes.last[store_keys.progress_key(UNIT, 1)]).done == 999


def test_progress_comes_without_being_asked_for_again() -> None:
    writes = Writes()
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=0.01) as courier:  # type: ignore[arg-type]
        courier.leave(step(1))
        courier.leave(step(2))
        wait_until(lambda: b'"done":2' in writes.last.get(store_keys.progress_key(UNIT, 1), b""), "the second progress")


def test_a_change_of_what_is_loaded_is_written_before_it_is_loaded() -> None:
    writes = Writes()
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600) as courier:  # type: ignore[arg-type]
        for loading in ("a" * 64, "b" * 64, None):
            courier.leave(step(0, loading))
            assert Progress.model_validate_json(writes.last[store_keys.progress_key(UNIT, 1)]).loading == loading


def test_progress_that_cannot_be_written_does_not_stop_the_work() -> None:
    writes = Writes()
    writes.away = True
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600) as courier:  # type: ignore[arg-type]
        courier.leave(step(0, "a" * 64))
        writes.away = False
    assert store_keys.progress_key(UNIT, 1) in writes.last


def test_a_notice_is_written_at_the_start_and_after_each_commit_with_new_content() -> None:
    writes, notice = Writes(), store_keys.notice_key(UNIT, 1)
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600, notices=True) as courier:  # type: ignore[arg-type]
        wait_until(lambda: notice in writes.last, "the first notice")
        first = writes.last[notice]
        courier.notify(UNIT, 1, "checkpoint-000000050")
        wait_until(lambda: writes.last[notice] != first, "the second notice")
        assert b"checkpoint-000000050" in writes.last[notice]
        courier.notify(UNIT, 1, "done")
    assert b"done" in writes.last[notice], "what was notified at the end is written"


def test_without_notices_none_is_written() -> None:
    writes = Writes()
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600) as courier:  # type: ignore[arg-type]
        courier.notify(UNIT, 1, "done")
    assert store_keys.notice_key(UNIT, 1) not in writes.last


def test_a_notice_that_cannot_be_written_does_not_stop_the_work() -> None:
    writes = Writes()
    writes.away = True
    with Courier(writes, UNIT, 1, AttemptLog(), progress_seconds=3600, notices=True) as courier:  # type: ignore[arg-type]
        courier.notify(UNIT, 1, "done")
        courier.leave(step(0, "a" * 64))
        writes.away = False
    assert store_keys.progress_key(UNIT, 1) in writes.last


def test_the_tail_of_a_long_log_is_kept_in_whole_lines() -> None:
    log = AttemptLog()
    with log.installed():
        for number in range(TAIL_CHARACTERS // 20):
            logging.getLogger("test").info("line %d %s", number, "x" * 40)
    lines = log.tail().decode().splitlines()
    assert lines[0] + "\n" == CUT
    assert f"line {TAIL_CHARACTERS // 20 - 1} " in lines[-1]
    assert all("INFO test: line " in line for line in lines[1:])
    assert TAIL_CHARACTERS - 200 < len(log.tail()) <= TAIL_CHARACTERS + len(CUT)
