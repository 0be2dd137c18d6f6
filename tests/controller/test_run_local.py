"""`potstill run` with real subprocesses of tiny_program, on a directory store."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller import lease, local_runner
from controller.cli.run import report_link
from controller.executors.local.launch import identity
from controller.retry import retry
from controller.snapshot import listing
from tests.controller.driver import execute, small
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.manifest import Manifest
from workloads.api.records import TaskEnd
from workloads.storage.base import Store, StoreError, open_store

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 120.0


@contextmanager
def potstill_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`potstill run` in a separate process and session, as at a terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.controller.driver", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def store_of(folder: Path) -> Store:
    return open_store((folder / "store").as_uri())


def starts(folder: Path) -> list[str]:
    """Task keys in the order in which they were started, `/` as `-`."""
    found = folder / "starts"
    return [path.name.split("-", 1)[1].rsplit("-", 1)[0] for path in sorted(found.iterdir())] if found.is_dir() else []


def live_processes(folder: Path) -> list[int]:
    """Tiny programs of this folder that are still running."""
    pids = [int(path.name.rsplit("-", 1)[1]) for path in (folder / "starts").iterdir()]
    return [pid for pid in pids if identity(pid) is not None]


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json(store_of(folder).get(store_keys.manifest_key(small().name, small().uid8)))


def ends(folder: Path) -> list[TaskEnd]:
    store = store_of(folder)
    keys = [info.key for info in store.list("units/") if info.key.endswith(".end.json")]
    return [TaskEnd.model_validate_json(store.get(key)) for key in keys]


def without_attempts(found: Manifest) -> Manifest:
    runs = tuple(run.model_copy(update={"attempts": 0}) for run in found.runs)
    none = {"generate_attempts": 0, "grade_attempts": 0}
    return found.model_copy(
        update={"runs": runs, "evaluations": tuple(e.model_copy(update=none) for e in found.evaluations)}
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


def hold(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.hold"
    path.touch()
    return path


def test_an_experiment_runs_to_its_manifest_and_report_and_not_again(tmp_path: Path) -> None:
    final = execute(small(), tmp_path)
    assert final.outcome == "Succeeded", final
    assert manifest(tmp_path).state == "succeeded"
    assert [evaluation.state for evaluation in manifest(tmp_path).evaluations] == ["done"] * 4
    before = starts(tmp_path)
    assert len(before) == len(set(before))
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert starts(tmp_path) == before


def test_why_each_thing_was_decided_is_in_the_store(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    prefix = store_keys.experiment_prefix(small().name, small().uid8) + "events/"
    lines = [
        json.loads(line)
        for info in store_of(tmp_path).list(prefix)
        for line in store_of(tmp_path).get(info.key).splitlines()
    ]
    assert {"WriteTask", "Start", "CloseTask", "WriteManifest"} <= {line["action"] for line in lines}
    assert all(line["reason"] and line["message"] and line["subject"] for line in lines)


def test_its_lines_say_how_many_problems_are_generated_and_graded(tmp_path: Path) -> None:
    """The base on 2 problems of one part and 3 of the other, and on one of each while the tiny program waits half-way.

    One program grades at a time, and it may begin before the other part is generated: one line of grading is enough.
    """
    stages = [("generating", all, tmp_path / "generate.half"), ("grading", any, tmp_path / "grade.half")]
    for _, _, held in stages:
        held.touch()
    lines: list[str] = []
    with potstill_run(tmp_path) as process:
        assert process.stdout is not None
        for stage, enough, held in stages:
            wanted = {f"base sums/fast: {stage} 1/2", f"base sums/rest: {stage} 1/3"}
            while not enough(any(line.endswith(text) for line in lines) for text in wanted):
                lines.append(process.stdout.readline().rstrip())
                assert lines[-1], f"the run ended before it said {wanted}: {lines}"
            held.unlink()
        assert "Succeeded" in process.communicate(timeout=DEADLINE_SECONDS)[0]


@pytest.mark.long
def test_killed_at_ten_moments_it_ends_in_the_same_manifest(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    execute(small(), whole)
    moments = random.Random(16)
    for _ in range(10):
        with potstill_run(killed) as process:
            try:
                process.wait(moments.uniform(0.5, 4.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
    assert execute(small(), killed).outcome == "Succeeded"
    assert without_attempts(manifest(killed)) == without_attempts(manifest(whole))


def test_a_killed_run_takes_its_programs_with_it(tmp_path: Path) -> None:
    held = hold(tmp_path, "train")
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        process.send_signal(signal.SIGKILL)
    until(lambda: not live_processes(tmp_path), "its programs end")
    held.unlink()
    assert execute(small(), tmp_path).outcome == "Succeeded"


def test_a_program_that_outlives_its_run_is_found_again_and_waited_for(tmp_path: Path) -> None:
    held = hold(tmp_path, "train")
    (tmp_path / "train.deaf").touch()
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        process.send_signal(signal.SIGKILL)
    with potstill_run(tmp_path) as process:
        until(lambda: any("grade" in key for key in starts(tmp_path)), "the second run works at the base")
        assert sum("train" in key for key in starts(tmp_path)) == 1
        held.unlink()
        assert "Succeeded" in process.communicate(timeout=DEADLINE_SECONDS)[0]
    assert sum("train" in key for key in starts(tmp_path)) == 1


def test_interrupted_it_stops_its_programs_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    held = hold(tmp_path, "train")
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=DEADLINE_SECONDS)[0]
    assert "Interrupted: stopped" in said
    assert "run distill again to continue" in said
    assert not live_processes(tmp_path)
    assert [end.counts_as_failure for end in ends(tmp_path) if end.outcome == "suspended"] != []
    assert not any(end.counts_as_failure for end in ends(tmp_path))
    held.unlink()
    assert execute(small(), tmp_path).outcome == "Succeeded"


def test_interrupted_twice_it_ends_at_once(tmp_path: Path) -> None:
    hold(tmp_path, "train")
    (tmp_path / "train.deaf").touch()
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        process.send_signal(signal.SIGINT)
        until(lambda: any(end.outcome == "suspended" for end in ends(tmp_path)), "the first is heard")
        process.send_signal(signal.SIGINT)
        assert "ended at once" in process.communicate(timeout=DEADLINE_SECONDS)[0]
    until(lambda: not live_processes(tmp_path), "its programs are killed")


def test_a_second_run_of_the_same_experiment_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    held = hold(tmp_path, "train")
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        second = execute(small(), tmp_path)
        assert second.outcome == "Refused"
        assert f"process {process.pid} on {os.uname().nodename}" in second.message
        held.unlink()
        assert "Succeeded" in process.communicate(timeout=DEADLINE_SECONDS)[0]


def test_a_failure_that_a_retry_cannot_help_is_tried_again_only_on_request(tmp_path: Path) -> None:
    refusal = tmp_path / "train.exit"
    refusal.write_text("10")
    final = execute(small(), tmp_path)
    assert final.outcome == "PartiallyFailed"
    assert sum("train" in key for key in starts(tmp_path)) == 1
    found = {evaluation.model: (evaluation.state, evaluation.reason) for evaluation in manifest(tmp_path).evaluations}
    blocked = ("failed", "blocked by run short (failed)")
    assert found == {"base": ("done", None), "short@50": blocked, "short@100": blocked}
    assert "exited with 10" in str(manifest(tmp_path).runs[0].reason)
    refusal.unlink()
    assert execute(small(), tmp_path).outcome == "PartiallyFailed"
    assert [retried.attempts for retried in retry(small(), store_of(tmp_path))] == [1]
    assert execute(small(), tmp_path).outcome == "Succeeded"


def test_a_program_that_crashes_is_tried_as_often_as_the_limit_says(tmp_path: Path) -> None:
    (tmp_path / "grade.exit").write_text("1")
    final = execute(small(), tmp_path)
    assert final.outcome == "Failed"
    assert final.status is not None
    assert all("exited with 1" in line.message for line in final.status.evaluations)
    alone = [end for end in ends(tmp_path) if end.counts_as_failure]
    assert len(alone) == 4 * small().limits.attempts


def test_no_link_is_printed_to_a_report_that_was_not_made(tmp_path: Path) -> None:
    store, failing = store_of(tmp_path), tmp_path / "report.exit"
    page = f"{store_keys.report_prefix(small().name, small().uid8)}index.html"
    store.put(page, b"the page of an earlier run")
    failing.write_text("10")
    final = execute(small(), tmp_path)
    assert final.outcome == "PartiallyFailed"
    assert "no report" in final.message
    assert report_link(store, final) is None
    failing.unlink()
    assert retry(small(), store)
    final = execute(small(), tmp_path)
    assert report_link(store, final) == f"{store.url}/{page}"
    store.delete(page)
    assert report_link(store, final) is None


def damage(store: Store, key: str) -> None:
    store.put(key, store.get(key)[:-1] + b" ")


def lose(store: Store, key: str) -> None:
    store.delete(key)


@pytest.mark.parametrize("harm", [damage, lose])
@pytest.mark.parametrize(("kind", "file"), [("grade", "grades.jsonl"), ("generate", "outputs.jsonl")])
def test_an_evaluation_whose_file_is_damaged_or_lost_fails_by_name_and_the_others_are_folded(
    kind: str, file: str, harm: Callable[[Store, str], None], tmp_path: Path
) -> None:
    assert execute(small(), tmp_path).outcome == "Succeeded"
    before, store = manifest(tmp_path), store_of(tmp_path)
    key = next(info.key for info in store.list(f"units/{kind}/") if info.key.endswith(file))
    kept = store.get(key)
    harm(store, key)
    final = execute(small(), tmp_path)
    assert final.outcome == "PartiallyFailed"
    after = manifest(tmp_path)
    assert after.state == "partially_failed"
    (failed,) = [e for e in after.evaluations if e.state == "failed"]
    assert failed.reason is not None
    assert failed.reason.startswith(f"CorruptFiles: {file} of marker ")
    assert key in failed.reason
    assert "restore it from a backup, or `potstill gc STORE --corrupt --delete`" in failed.reason
    assert [e for e in after.evaluations if e.id != failed.id] == [e for e in before.evaluations if e.id != failed.id]
    assert final.status is not None
    assert [line.reason for line in final.status.evaluations if line.state == "failed"] == ["CorruptFiles"]
    store.put(key, kept)
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert manifest(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"right": 0, "wrong": 1}, "states right 0, its grades give"),
        ({"outputs": 7}, "states outputs 7, its grades give"),
        ({"budget": 9}, "it states budgets 9"),
    ],
)
def test_a_marker_whose_counts_are_not_those_of_its_verdicts_is_not_believed(
    tmp_path: Path, change: dict[str, int], words: str
) -> None:
    assert execute(small(), tmp_path).outcome == "Succeeded"
    before, store = manifest(tmp_path), store_of(tmp_path)
    key = next(info.key for info in store.list("units/grade/") if info.key.endswith("markers/grades.json"))
    marker = json.loads(store.get(key))
    marker["record"]["budgets"][0] |= change
    del marker["checksum"]  # as in markers of the version before
    store.put(key, json.dumps(marker).encode())
    assert execute(small(), tmp_path).outcome == "PartiallyFailed"
    (failed,) = [e for e in manifest(tmp_path).evaluations if e.state == "failed"]
    assert failed.reason is not None
    assert words in failed.reason
    assert f"delete {key} and run again" in failed.reason
    assert failed.budgets == ()
    store.delete(key)
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert [e.budgets for e in manifest(tmp_path).evaluations] == [e.budgets for e in before.evaluations]


def test_a_training_whose_metrics_are_lost_keeps_its_results_and_reports_the_lost_curve(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store = store_of(tmp_path)
    store.delete(next(info.key for info in store.list("units/train/") if info.key.endswith("metrics.jsonl")))
    assert execute(small(), tmp_path).outcome == "Succeeded"
    (run,) = manifest(tmp_path).runs
    assert run.losses == ()
    assert run.warnings[0].startswith("CorruptFiles: metrics.jsonl of marker done")


def test_with_a_store_that_refuses_writes_it_waits_says_so_once_and_ends_on_the_first_signal(tmp_path: Path) -> None:
    """A file in place of the folder for unfinished writes makes each write fail, as a full disk does."""
    held, writing = hold(tmp_path, "train"), tmp_path / "store" / ".writing"
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        until(lambda: manifest_is_there(tmp_path), "the base is graded")
        shutil.move(writing, tmp_path / "aside")
        writing.touch()
        held.unlink()
        until(lambda: not live_processes(tmp_path), "its programs end")
        lines: list[str] = []
        assert process.stdout is not None
        while not any("Trying again, after 30 s at most; Ctrl-C ends" in line for line in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        spent = cpu_seconds(process.pid)
        began = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5)
        assert cpu_seconds(process.pid) - spent < (time.monotonic() - began) / 4
        process.send_signal(signal.SIGTERM)
        lines += process.communicate(timeout=30)[0].splitlines()
    assert any(line.startswith("Interrupted: stopped, while ") for line in lines), lines
    assert sum("Trying again" in line for line in lines) <= 2, lines
    writing.unlink()
    assert execute(small(), tmp_path).outcome == "Succeeded"


def manifest_is_there(folder: Path) -> bool:
    return store_of(folder).head(store_keys.manifest_key(small().name, small().uid8)) is not None


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_experiment_whose_folder_is_deleted_does_not_strand_who_shares_its_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(tmp_path, "train")
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        process.send_signal(signal.SIGKILL)
    until(lambda: not live_processes(tmp_path), "its programs end")
    held.unlink()
    shutil.rmtree(tmp_path / "store" / "experiments" / small().name)
    monkeypatch.setattr(lease, "DELETED_SECONDS", 1.0)
    assert execute(small().model_copy(update={"name": "heir", "uid8": "0000000f"}), tmp_path).outcome == "Succeeded"


def test_no_task_is_open_when_it_has_ended(tmp_path: Path) -> None:
    assert execute(small(), tmp_path).outcome == "Succeeded"
    keys = {info.key for info in store_of(tmp_path).list("units/")}
    tasks = {key for key in keys if re.search(r"tasks/\d+\.json$", key)}
    assert {key for key in tasks if key.removesuffix(".json") + ".end.json" not in keys} == set()
    assert any("units/report/" in key for key in tasks)
    assert list((tmp_path / "work" / "processes").iterdir()) == []


def test_records_that_cannot_be_read_fail_their_units_by_name_and_the_run_ends(tmp_path: Path) -> None:
    assert execute(small(), tmp_path).outcome == "Succeeded"
    store = store_of(tmp_path)
    unit = train_unit(small().runs[0])
    key = store_keys.marker_key(unit, store_keys.checkpoint_marker(100))
    store.put(key, b"junk")
    store.put(store_keys.progress_key(unit, 1), b"junk")
    assert execute(small(), tmp_path).outcome == "PartiallyFailed"
    failed = [evaluation for evaluation in manifest(tmp_path).evaluations if evaluation.state == "failed"]
    assert [(evaluation.model, key in (evaluation.reason or "")) for evaluation in failed] == [("short@100", True)]


def test_another_experiments_damaged_record_of_its_runner_does_no_harm(tmp_path: Path) -> None:
    held = hold(tmp_path, "train")
    with potstill_run(tmp_path) as process:
        until(lambda: any("train" in key for key in starts(tmp_path)), "the training starts")
        heir = small().model_copy(update={"name": "heir", "uid8": "0000000f"})
        store_of(tmp_path).put(store_keys.runner_key(small().name, small().uid8), b"junk")
        process.send_signal(signal.SIGKILL)
    held.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "DELETED_SECONDS", 1.0)
        assert execute(heir, tmp_path).outcome == "Succeeded"


def test_a_store_that_lost_results_ends_the_run_when_nothing_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_runner, "ROUNDS", 2)
    monkeypatch.setattr(listing, "SETTLED_ROUNDS", 1)
    held, store = hold(tmp_path, "train"), store_of(tmp_path)

    def lose_outputs() -> None:
        until(lambda: manifest_is_there(tmp_path), "the base is graded")
        store.delete(next(info.key for info in store.list("units/generate/") if "/markers/" in info.key))
        held.unlink()

    thief = threading.Thread(target=lose_outputs)
    thief.start()
    try:
        with pytest.raises(StoreError, match="StoreRegressed: the store holds .* until it is whole again"):
            execute(small(), tmp_path)
    finally:
        thief.join()
    assert not live_processes(tmp_path)
