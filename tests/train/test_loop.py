"""The times at which the loop saves, by a clock that advances one second with every launched step."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.world import END_OF_TEXT, inputs, open_directory, order, sums, write_rows
from workloads.api.records import CheckpointRecord, Marker, Record, StateRecord
from workloads.api.tasks import TrainTask
from workloads.attempt_log import AttemptLog
from workloads.data.end_token import EndToken
from workloads.data.samples import prepare
from workloads.program import Context
from workloads.progress import Courier
from workloads.storage.markers import list_markers
from workloads.text.tokenizer import load_tokenizer
from workloads.train.fast import FastTrainer
from workloads.train.flat_parameters import FlatParameters
from workloads.train.loop import Training
from workloads.train.model import load_base
from workloads.train.patch import add_lora, lora_parameters
from workloads.train.ranks import Ranks
from workloads.train.resume import Cursor
from workloads.train.step import StepReading

STEPS = 70
CHECKPOINTS = (20, 37, 55, 70)
UPLOAD_SECONDS = 6
PATIENCE_SECONDS = 20.0


class Clock:
    def __init__(self) -> None:
        self.seconds = 0
        self._changed = threading.Condition()

    def __call__(self) -> float:
        return float(self.seconds)

    def tick(self) -> None:
        with self._changed:
            self.seconds += 1
            self._changed.notify_all()

    def reaches(self, seconds: int) -> bool:
        """Returns False if the training waited instead."""
        with self._changed:
            return self._changed.wait_for(lambda: self.seconds >= seconds, PATIENCE_SECONDS)


class Timed(Training):
    clock: Clock

    def _launch(self, *step: Any) -> StepReading:
        self.clock.tick()
        return super()._launch(*step)


@dataclass(frozen=True)
class SlowUploads(Context[TrainTask]):
    """A store that commits a state UPLOAD_SECONDS after its step, for which the training must not wait; the last at
    once.
    """

    clock: Clock
    states: list[int]

    def commit(self, name: str, files: Mapping[str, Path], record: Record, **more: Any) -> Marker:
        if isinstance(record, StateRecord):
            self.states.append(record.step)
            if record.step < STEPS and not self.clock.reaches(record.step + UPLOAD_SECONDS):
                raise AssertionError(f"the training waits for the upload of the state of step {record.step}")
        return super().commit(name, files, record, **more)


@pytest.mark.slow
def test_a_checkpoint_does_not_wait_for_a_state_that_was_only_due_by_time(dense: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", sums(STEPS))
    stated = inputs(dense, data, samples=STEPS, batch_size=1, checkpoints=CHECKPOINTS)
    store = open_directory(tmp_path / "store")
    task = order(store, stated, dense, data, save_state_every_seconds=1.0)
    assert stated.lora is not None
    model = load_base(dense, "float32", torch.device("cpu"))
    add_lora(model, stated.lora.rank, stated.lora.alpha, stated.lora.target, seed=0)
    terminated, clock, states = threading.Event(), Clock(), list[int]()
    with Courier(store, task.unit, task.number, AttemptLog()) as courier:
        Timed(
            task=task,
            leader=SlowUploads(store, task, terminated, lambda: datetime.now(UTC), courier, clock, states),
            terminated=terminated,
            ranks=Ranks(0, 1, torch.device("cpu")),
            trainer=FastTrainer(dense, stated, Ranks(0, 1, torch.device("cpu")), model),
            adapter=FlatParameters(lora_parameters(model)),
            data=prepare(data, stated, load_tokenizer(dense), EndToken(END_OF_TEXT, "<|endoftext|>", "test")),
            canaries=tuple,
            micro_batch_tokens=128,
            cursor=Cursor(),
            metrics=[],
            resumed=None,
            clock=clock,
        ).run()
    records = [marker.record for marker in list_markers(store, task.unit)]
    assert [record.step for record in records if isinstance(record, CheckpointRecord)] == list(CHECKPOINTS)
    assert set(CHECKPOINTS) < set(states)
