"""Processes that a killed `potstill run` had started, and whose end no process saw."""

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.executors.local import launch
from controller.executors.local.executor import LocalExecutor, Record, is_alive
from controller.executors.local.machine import Machine
from controller.planner.actions import Start
from controller.planner.planner import decide
from controller.snapshot.types import JobsSnapshot, StoreSnapshot
from tests.controller.experiments import START, experiment, run
from tests.tools.processes import wait_until
from workloads.storage.base import open_store

KEY = "units/train/" + "0" * 64 + "/tasks/1.json"
STARTED = datetime(2026, 2, 13, 18, 0, tzinfo=UTC)


def test_its_gpu_is_counted_until_it_was_last_heard_of_and_not_until_somebody_looks(tmp_path: Path) -> None:
    machine = Machine(cores=2, devices=("0",), trainings=1)
    executor = LocalExecutor(open_store((tmp_path / "store").as_uri()), tmp_path / "work", machine)
    name = KEY.replace("/", "-")
    about = {"key": KEY, "pid": 2**22 + 1, "identity": "gone", "created": STARTED.isoformat(), "device": 0}
    (tmp_path / "work" / "processes" / name).write_text(json.dumps(about))
    log = tmp_path / "work" / "logs" / name
    log.write_text("step 7\n")
    heard = (STARTED + timedelta(hours=2)).timestamp()
    os.utime(log, (heard, heard))
    job = executor.view().jobs[KEY]
    assert (job.phase, job.exit_code, job.gpus) == ("ended", None, 1)
    assert job.ended == STARTED + timedelta(hours=2)


def test_a_process_that_ends_between_two_looks_at_it_ended_with_its_exit_code(tmp_path: Path) -> None:
    """Its end counts as seen."""
    store = open_store((tmp_path / "store").as_uri())
    hold = tmp_path / "hold"
    hold.touch()
    script = f"import os, sys, time\nwhile os.path.exists({str(hold)!r}): time.sleep(0.01)\nsys.exit(10)"
    machine = Machine(cores=2, devices=(), trainings=1)
    ends_between_looks = threading.Event()

    def is_alive_or_ends(record: Record) -> bool:
        if not ends_between_looks.is_set():
            return is_alive(record)
        hold.unlink(missing_ok=True)
        wait_until(lambda: launch.identity(record.pid) is None, "it has ended")
        return False

    executor = LocalExecutor(
        store,
        tmp_path / "work",
        machine,
        command=lambda task: [sys.executable, "-c", script],
        is_alive=is_alive_or_ends,
    )
    decision = decide(experiment((run("short", (50,)),)), StoreSnapshot({}), JobsSnapshot({}), START)
    task = next(action.task for action in decision.actions if isinstance(action, Start))
    executor.start(task)
    wait_until(lambda: executor.view().jobs[task.key].phase == "running", "it runs")
    ends_between_looks.set()
    job = executor.view().jobs[task.key]
    assert (job.phase, job.exit_code) == ("ended", 10)


def test_the_temporary_folder_of_a_killed_program_is_deleted_with_its_record(tmp_path: Path) -> None:
    """This also holds if the `potstill run` that started it has ended."""
    store = open_store((tmp_path / "store").as_uri())
    machine = Machine(cores=2, devices=(), trainings=1)
    script = "import tempfile, time; print(tempfile.mkdtemp(), flush=True); time.sleep(600)"
    first = LocalExecutor(store, tmp_path / "work", machine, command=lambda task: [sys.executable, "-c", script])
    frozen = experiment((run("short", (50,)),))
    decision = decide(frozen, StoreSnapshot({}), JobsSnapshot({}), START)
    task = next(action.task for action in decision.actions if isinstance(action, Start))
    first.start(task)
    log = tmp_path / "work" / "logs" / task.key.replace("/", "-")
    made = Path(wait_until(lambda: log.read_text().strip(), "the program makes a folder"))
    assert made.is_dir()
    os.kill(next(record.pid for record in first.records()), signal.SIGKILL)
    wait_until(lambda: first.view().jobs[task.key].phase == "ended", "it is gone")
    LocalExecutor(store, tmp_path / "work", machine).discard(task.key)
    assert not made.exists()
    assert not made.parent.exists()
