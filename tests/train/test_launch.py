"""Several ranks on this machine's CPUs, over gloo."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.models.tiny import write_tiny_base
from tests.train.world import environment, files, inputs, open_directory, order, sums, train_here, write_rows
from workloads.api.records import CheckpointRecord, ExitCode, StateRecord, TrainRecord
from workloads.api.tasks import TrainTask
from workloads.api.units import GENERAL_NUMERICS
from workloads.models import FAMILIES
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, newest_state, read_marker
from workloads.train.launch import free_address, launch, rank_environments
from workloads.train.metrics import from_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.long]


def start_two(store: Store, task: TrainTask) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workloads.train.launch", "--processes", "2", task.key],
        env=environment(store, CUDA_VISIBLE_DEVICES=""),
        stderr=subprocess.PIPE,
        text=True,
    )


def two(store: Store, task: TrainTask) -> tuple[int, str]:
    process = start_two(store, task)
    _, log = process.communicate(timeout=600)
    return process.returncode, log


def test_two_ranks_train_what_one_process_trains(dense: Path, rows: Path, tmp_path: Path) -> None:
    stated = inputs(dense, rows, batch_size=6, checkpoints=(12, 24), validation_share=0.1)
    alone, together = open_directory(tmp_path / "alone"), open_directory(tmp_path / "together")
    one, pair = order(alone, stated, dense, rows), order(together, stated, dense, rows)
    assert train_here(alone, one) == 0
    code, log = two(together, pair)
    assert code == 0, log
    ours = from_lines(files(alone, one, "done", tmp_path / "a")["metrics.jsonl"].read_bytes())
    theirs = from_lines(files(together, pair, "done", tmp_path / "b")["metrics.jsonl"].read_bytes())
    for mine, their in zip(ours, theirs, strict=True):
        assert (mine.step, mine.tokens, mine.supervised_tokens) == (their.step, their.tokens, their.supervised_tokens)
        assert their.loss == pytest.approx(mine.loss, rel=1e-4)
        assert their.gradient_norm == pytest.approx(mine.gradient_norm, rel=1e-3)
    assert theirs[0].loss == pytest.approx(ours[0].loss, rel=1e-6)
    name = "checkpoint-000000024"
    mine_weights = load_file(files(alone, one, name, tmp_path / "a")["adapter_model.safetensors"])
    their_weights = load_file(files(together, pair, name, tmp_path / "b")["adapter_model.safetensors"])
    for key, tensor in mine_weights.items():
        torch.testing.assert_close(their_weights[key], tensor, rtol=1e-2, atol=1e-3)
    marker = read_marker(together, pair.unit, name)
    reference = read_marker(alone, one.unit, name)
    assert marker is not None
    assert reference is not None
    assert isinstance(marker.record, CheckpointRecord)
    assert isinstance(reference.record, CheckpointRecord)
    assert marker.record.validation_loss == pytest.approx(reference.record.validation_loss, rel=1e-3)
    done = read_marker(together, pair.unit, "done")
    assert done is not None
    assert isinstance(done.record, TrainRecord)
    assert done.record.devices == 2


def first_state(store: Store, task: TrainTask, deadline_seconds: float = 600.0) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not any(isinstance(marker.record, StateRecord) for marker in list_markers(store, task.unit)):
        assert time.monotonic() < deadline, "no state was committed"
        time.sleep(0.01)


def contents(store: Store, task: TrainTask) -> dict[str, Any]:
    return {
        marker.name: marker.content
        for marker in list_markers(store, task.unit)
        if isinstance(marker.record, CheckpointRecord)
    }


def test_two_ranks_save_after_sigterm_and_continue_bit_for_bit(dense: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", sums(200))
    stated = inputs(dense, rows, samples=200, checkpoints=(20, 200))
    calm, store = open_directory(tmp_path / "calm"), open_directory(tmp_path / "told")
    untouched, first = order(calm, stated, dense, rows), order(store, stated, dense, rows)
    code, log = two(calm, untouched)
    assert code == 0, log
    process = start_two(store, first)
    first_state(store, first)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=600)
    assert process.returncode == ExitCode.TERMINATED, log
    assert read_marker(store, first.unit, "done") is None
    code, log = two(store, order(store, stated, dense, rows, number=2))
    assert code == 0
    assert "resuming from state-" in log
    assert contents(store, first) == contents(calm, untouched)


@pytest.mark.parametrize(("fast", "told"), [(1, 1), (0, 1), (1, 0)])
def test_ranks_whose_clocks_differ_end_after_the_same_step_and_its_state_is_committed(
    fast: int, told: int, dense: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", sums(80))
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows, samples=80, checkpoints=(80,)), dense, rows)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.apart", str(fast), str(told), "7", task.key],
            env=environment(store, CUDA_VISIBLE_DEVICES="", **place),
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in rank_environments(2, 1, 0, free_address())
    ]
    logs = [rank.communicate(timeout=600)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [ExitCode.TERMINATED, ExitCode.OK], "\n".join(logs)
    ends = [json.loads(re.findall(r"^{.*}$", log, re.MULTILINE)[-1]) for log in logs]
    assert ends[0]["step"] == ends[1]["step"] in (7, 8)
    state = newest_state(list_markers(store, task.unit))
    assert state is not None
    assert isinstance(state.record, StateRecord)
    assert state.record.step == ends[0]["step"]
    assert min(end["patience_seconds"] for end in ends) > 3600


def test_the_exit_code_is_that_of_rank_0(dense: Path, rows: Path, tmp_path: Path) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows, samples=60, checkpoints=()), dense, rows)
    code, log = two(store, task)
    assert code == ExitCode.BAD_DATA, log


def test_a_rank_that_is_killed_takes_the_others_with_it() -> None:
    script = (
        "import os, signal, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)"
    )
    program = (
        "from workloads.train.launch import *; import sys; "
        f"sys.exit(launch([sys.executable, '-c', {script!r}], rank_environments(3, 1, 0, 'localhost:1')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 128 + signal.SIGKILL


def test_ranks_count_over_all_nodes() -> None:
    found = rank_environments(2, 3, 1, "first:29500")
    assert [place["RANK"] for place in found] == ["2", "3"]
    assert {place["WORLD_SIZE"] for place in found} == {"6"}
    assert [place["LOCAL_RANK"] for place in found] == ["0", "1"]
    assert found[0]["MASTER_ADDR"] == "first"
    assert launch([sys.executable, "-c", "pass"], found) == 0


def test_two_ranks_of_the_general_trainer_train_what_one_process_trains(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", FAMILIES["LlamaForCausalLM"])
    general = {"trainer": "general", "numerics": GENERAL_NUMERICS}
    stated = inputs(base, rows, batch_size=6, checkpoints=(12, 24), validation_share=0.1, **general)
    alone, together = open_directory(tmp_path / "alone"), open_directory(tmp_path / "together")
    one, pair = order(alone, stated, base, rows), order(together, stated, base, rows)
    assert train_here(alone, one) == 0
    code, log = two(together, pair)
    assert code == 0, log
    ours = from_lines(files(alone, one, "done", tmp_path / "a")["metrics.jsonl"].read_bytes())
    theirs = from_lines(files(together, pair, "done", tmp_path / "b")["metrics.jsonl"].read_bytes())
    assert [metric.loss for metric in theirs] == pytest.approx([metric.loss for metric in ours], rel=1e-4)
    assert theirs[0].loss == pytest.approx(ours[0].loss, rel=1e-6)
