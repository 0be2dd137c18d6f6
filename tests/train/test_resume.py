"""A run that is killed anywhere ends with the same bytes as an undisturbed run."""

import multiprocessing
import os
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.train.world import (
    environment,
    failure,
    inputs,
    open_directory,
    order,
    start,
    sums,
    train,
    train_here,
    write_rows,
)
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode, StateRecord, content_of
from workloads.api.tasks import TrainTask
from workloads.api.units import GENERAL_NUMERICS, Lora, TrainInputs
from workloads.program import run_program
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, verify
from workloads.train.__main__ import lead

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.long]
PATIENCE_SECONDS = 600.0
KILLS = 10


def attempt(store: Store, key: str) -> None:
    """Runs a whole process without the seconds of importing torch: it is forked from a server that has imported it."""
    os.environ.update(environment(store))
    import torch

    torch.set_num_threads(1)
    raise SystemExit(run_program(TrainTask, lead, [key]))


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "workloads.train.program",
            "workloads.train.general.trainer",
            "transformers.models.qwen3.modeling_qwen3",
            "transformers.models.qwen3_moe.modeling_qwen3_moe",
        ]
    )
    return context


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", sums(200))


def asked(base: Path, data: Path, kind: str) -> TrainInputs:
    if kind == "full":
        return inputs(
            base,
            data,
            type="full",
            lora=None,
            trainer="general",
            numerics=GENERAL_NUMERICS,
            learning_rate=1e-3,
            samples=160,
            checkpoints=(40, 80, 120, 160),
            validation_share=0.05,
        )
    target = ("attention", "experts") if kind == "moe" else ("attention", "mlp")
    return inputs(
        base,
        data,
        samples=160,
        checkpoints=(40, 80, 120, 160),
        validation_share=0.05,
        lora=Lora(rank=4, alpha=8.0, target=target),
    )


def begin(
    context: multiprocessing.context.ForkServerContext,
    store: Store,
    stated: TrainInputs,
    base: Path,
    data: Path,
    n: int,
) -> ForkServerProcess:
    task = order(store, stated, base, data, number=n, save_state_every_seconds=0.05)
    process = context.Process(target=attempt, args=(store, task.key))
    process.start()
    return process


def results(store: Store, task: TrainTask) -> dict[str, tuple[str, CheckpointRecord]]:
    """Returns the content and the record of every checkpoint."""
    return {
        marker.name: (marker.content, marker.record)
        for marker in list_markers(store, task.unit)
        if isinstance(marker.record, CheckpointRecord)
    }


def writes(store_folder: Path, number: int) -> int:
    """Returns the number of files that an attempt has written, with markers and unfinished ones, as its progress."""
    return sum(len(files) for folder, _, files in os.walk(store_folder) if "tasks" not in Path(folder).parts)


@pytest.mark.parametrize("kind", ["dense", "moe", "full"])
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_the_run_never_killed(
    kind: str,
    long_rows: Path,
    tmp_path: Path,
    processes: multiprocessing.context.ForkServerContext,
    request: pytest.FixtureRequest,
) -> None:
    base: Path = request.getfixturevalue("dense" if kind == "full" else kind)
    stated = asked(base, long_rows, kind)
    calm = open_directory(tmp_path / "calm")
    untouched = order(calm, stated, base, long_rows)
    assert train_here(calm, untouched) == 0

    folder = tmp_path / "killed"
    store = open_directory(folder)
    moments = random.Random(16)
    killed, number, code = 0, 0, None
    while code != 0:
        number += 1
        process = begin(processes, store, stated, base, long_rows, number)
        if killed < KILLS:
            until = writes(folder, number) + moments.randrange(1, 12)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while writes(folder, number) < until and process.is_alive() and time.monotonic() < deadline:
                process.join(0.001)
            process.join(moments.uniform(0, 0.02))
            process.kill()
        process.join(PATIENCE_SECONDS)
        code = process.exitcode
        assert code in (0, -9)
        killed += code == -9
    assert killed >= 3
    assert results(store, untouched) == results(calm, untouched)
    assert len(results(store, untouched)) == 4
    states = [marker for marker in list_markers(store, untouched.unit) if isinstance(marker.record, StateRecord)]
    assert len(states) == 2


def wait_for_state(store: Store, task: TrainTask) -> int:
    """Waits for the first committed state and returns its step."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        states = [m.record.step for m in list_markers(store, task.unit) if isinstance(m.record, StateRecord)]
        if states:
            return max(states)
        time.sleep(0.01)
    raise AssertionError("no state was committed")


def test_a_process_commits_its_state_after_sigterm_and_the_next_continues_from_there(
    dense: Path, long_rows: Path, tmp_path: Path
) -> None:
    stated = asked(dense, long_rows, "dense")
    calm, store = open_directory(tmp_path / "calm"), open_directory(tmp_path / "told")
    untouched = order(calm, stated, dense, long_rows)
    assert train_here(calm, untouched) == 0
    first = order(store, stated, dense, long_rows)
    process = start(store, first)
    seen = wait_for_state(store, first)
    process.terminate()
    _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == ExitCode.TERMINATED, log
    assert wait_for_state(store, first) > seen
    assert "state-" in log
    second = order(store, stated, dense, long_rows, number=2)
    code, log = train(store, second)
    assert code == 0
    assert "resuming from state-" in log
    assert results(store, first) == results(calm, first)


def test_a_checkpoint_whose_state_was_committed_before_the_kill_is_published_by_the_next_attempt(
    dense: Path, rows: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows), dense, rows)
    assert train_here(store, task) == 0
    before = results(store, task)
    for name in ("checkpoint-000000024", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    assert train_here(store, order(store, task.inputs, dense, rows, number=2)) == 0
    assert results(store, task) == before
    again = {marker.name: marker for marker in list_markers(store, task.unit)}
    assert again["checkpoint-000000024"].attempt == 2
    assert again["state-000000006"].attempt == 1
    assert again["checkpoint-000000024"].parent == "state-000000006"


def test_a_corrupt_state_is_passed_over_for_the_one_before(
    dense: Path, rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows), dense, rows)
    assert train_here(store, task) == 0
    before = results(store, task)
    markers = {marker.name: marker for marker in list_markers(store, task.unit)}
    file = next(file for file in markers["state-000000006"].files if file.name == "trainer_state.safetensors")
    store.put(file.key, b"\0" * file.size)
    for name in ("checkpoint-000000024", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    assert train_here(store, order(store, task.inputs, dense, rows, number=2)) == 0
    assert "resume state skipped" in caplog.text
    assert "resuming from state-000000002" in caplog.text
    assert results(store, task) == before
    again = {marker.name: marker for marker in list_markers(store, task.unit)}
    assert again["state-000000006"].attempt == 2
    assert verify(store, again["state-000000006"], deep=True) == []


def test_states_lost_behind_a_checkpoint_that_does_not_come_out_again_end_the_unit_with_that_reason(
    dense: Path, rows: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows), dense, rows)
    assert train_here(store, task) == 0
    markers = {marker.name: marker for marker in list_markers(store, task.unit)}
    for name in ("state-000000002", "state-000000006", "checkpoint-000000008", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    files = tuple(file.model_copy(update={"sha256": "0" * 64}) for file in markers["checkpoint-000000008"].files)
    foreign = markers["checkpoint-000000008"].model_copy(update={"files": files, "content": content_of(files)})
    store.put_new(store_keys.marker_key(task.unit, foreign.name), foreign.with_checksum().to_json())
    again = order(store, task.inputs, dense, rows, number=2)
    assert train_here(store, again) == ExitCode.BAD_DATA
    assert failure(store, again).reason == "StatesLost"
    assert "a checkpoint of step 6 is committed" in failure(store, again).message
