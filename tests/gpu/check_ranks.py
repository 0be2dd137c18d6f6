"""The trainer's own launcher with one rank for each of two CUDA devices: `python -m tests.gpu.check_ranks`.

A small mixture of experts in float32: an attempt by two ranks of which one is killed, which ends the attempt; one that
goes on from its state and gets SIGTERM, after which it saves another; the next, which goes on from that; and what one process
trains, step by step. Ends with status 1 if a check failed. Without CUDA devices it runs on the CPU, over gloo.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.gpu.check_trainer import EXPERTS, SIZES, TOLERANCES, check, failures, metrics
from tests.train import world
from workloads.api.records import ExitCode, TrainRecord
from workloads.api.tasks import TrainTask
from workloads.api.units import Lora
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, newest_state, read_marker
from workloads.train.metrics import Metric

DEADLINE_SECONDS = 120.0


def start_two(store: Store, task: TrainTask) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workloads.train.launch", "--processes", "2", task.key],
        env=world.environment(store),
        stderr=subprocess.PIPE,
        text=True,
    )


def child_of_rank(launcher: int, rank: int) -> int:
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"process {launcher} has no rank {rank}")


def newest(store: Store, task: TrainTask) -> str:
    """The name of the newest state; "" before the first, which is less than any."""
    state = newest_state(list_markers(store, task.unit))
    return "" if state is None else state.name


def wait_for_state(process: subprocess.Popen[str], store: Store, task: TrainTask, after: str) -> None:
    """Until a state newer than `after` is committed, or the process has ended, or too much time has passed."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline and newest(store, task) <= after:
        time.sleep(0.005)


def kill_rank(store: Store, task: TrainTask, rank: int) -> None:
    """Kills a rank once a state is committed."""
    process = start_two(store, task)
    wait_for_state(process, store, task, after="")
    if process.poll() is None:
        os.kill(child_of_rank(process.pid, rank), signal.SIGKILL)
    _, log = process.communicate(timeout=DEADLINE_SECONDS)
    good = process.returncode == 128 + signal.SIGKILL
    check("a killed rank ends the attempt", good, f"exit {process.returncode}")
    check("and no result is written", read_marker(store, task.unit, "done") is None, "")
    if not good:
        print(log)


def tell_to_end(store: Store, task: TrainTask) -> None:
    """SIGTERM to the launcher once the attempt has committed its own state."""
    before = newest(store, task)
    process = start_two(store, task)
    wait_for_state(process, store, task, after=before)
    seen = newest(store, task)
    process.terminate()
    try:
        _, log = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        os.kill(child_of_rank(process.pid, 0), signal.SIGKILL)
        _, log = process.communicate()
    good = process.returncode == ExitCode.TERMINATED and newest(store, task) > seen > before
    check("two ranks told to end save and end", good, f"exit {process.returncode}, {seen}, {newest(store, task)}")
    if not good:
        print(log)


def main() -> int:
    world.SIZES.update(SIZES)
    world.EXPERTS.update(EXPERTS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data, base = world.write_rows(root / "rows.jsonl", world.sums(1200)), world.write_base(root / "base", "moe")
        stated = world.inputs(
            base,
            data,
            samples=960,
            checkpoints=(480, 960),
            batch_size=6,
            learning_rate=1e-3,
            lora=Lora(rank=16, alpha=16.0, target=("attention", "experts")),
        )
        store, alone = world.open_directory(root / "two"), world.open_directory(root / "one")
        one = world.order(alone, stated, base, data)
        process = world.start(alone, one)
        kill_rank(store, world.order(store, stated, base, data, save_state_every_seconds=0.05), rank=1)
        tell_to_end(store, world.order(store, stated, base, data, number=2, save_state_every_seconds=0.05))
        task = world.order(store, stated, base, data, number=3)
        again = start_two(store, task)
        _, log = again.communicate(timeout=DEADLINE_SECONDS)
        good = again.returncode == 0 and "resuming from state-" in log
        check("the next attempt goes on from its state", good, f"exit {again.returncode}")
        if not good:
            print(log)
        _, log = process.communicate(timeout=DEADLINE_SECONDS)
        check("one process trains it too", process.returncode == 0, f"exit {process.returncode}")
        if not failures:
            compare(store, task, metrics(store, task, root / "a"), metrics(alone, one, root / "b"))
    print(f"{len(failures)} failed: {failures}" if failures else "all checks hold")
    return 1 if failures else 0


def compare(store: Store, task: TrainTask, theirs: Sequence[Metric], ours: Sequence[Metric]) -> None:
    done = read_marker(store, task.unit, "done")
    assert done is not None
    assert isinstance(done.record, TrainRecord)
    worst = max(abs(a.loss - b.loss) / b.loss for a, b in zip(theirs, ours, strict=True))
    check("two ranks, losses of one process", worst <= TOLERANCES["float32"], f"{len(ours)} steps, {worst:.1e} apart")
    first = abs(theirs[0].loss - ours[0].loss) / ours[0].loss
    norm = abs(theirs[0].gradient_norm - ours[0].gradient_norm) / ours[0].gradient_norm
    check("the first step", first <= 1e-4 and norm <= 1e-3, f"loss {first:.1e}, gradient norm {norm:.1e} apart")
    check("on two devices", done.record.devices == 2, done.record.device)


if __name__ == "__main__":
    sys.exit(main())
