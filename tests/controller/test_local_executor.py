"""What is known of a process that a killed `potstill run` had started, and that nobody saw end."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.executors.local import LocalExecutor
from controller.executors.machine import Machine
from workloads.store import open_store

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
