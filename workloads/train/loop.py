"""The training loop: steps, checkpoints and resume states, and the end of a run. Only rank 0 writes."""

import gc
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workloads.api import store_keys
from workloads.api.records import Canary, CheckpointRecord, ExitCode, Progress, StateRecord
from workloads.api.tasks import TrainTask
from workloads.data.samples import TrainingData
from workloads.program import Context, ProgramError, Terminated
from workloads.storage.content_digest import content_of_sums, hash_file, is_counted
from workloads.storage.markers import prune_states
from workloads.train.batches import supervised_tokens
from workloads.train.checkpoint_writer import Publisher
from workloads.train.metrics import Metric
from workloads.train.ranks import Ranks
from workloads.train.resume import Cursor, write_state
from workloads.train.schedule import checkpoint_steps, learning_rate, samples_after, total_steps
from workloads.train.step import RankRequest, StepReading, mean_loss, moment, optimizer_step
from workloads.train.trainer import Batch, TrainedParameters, Trainer

logger = logging.getLogger("potstill")
FIRST_UPLOAD_BYTES_PER_SECOND = 100e6
"""The assumed speed of the first upload of a state, before one was measured.

Uploads to S3 reached 279 MB/s (docs/performance.md, Checkpoints).
"""


@dataclass
class Training:
    """One attempt. `leader`: rank 0's context, None on the others; `resumed`: the state from which it continues.

    `micro_batch_tokens`: the largest micro-batch; `canaries`: computes log-probabilities with the current model.
    """

    task: TrainTask
    leader: Context[TrainTask] | None
    terminated: threading.Event
    ranks: Ranks
    trainer: Trainer
    adapter: TrainedParameters
    data: TrainingData
    canaries: Callable[[], tuple[Canary, ...]]
    micro_batch_tokens: int
    cursor: Cursor
    metrics: list[Metric]
    resumed: str | None
    clock: Callable[[], float] = time.monotonic
    _state: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = self.task.inputs
        self.steps = total_steps(self.inputs)
        self.checkpoints = checkpoint_steps(self.inputs)
        self.saves = {*self.checkpoints, self.steps}
        self.optimizer = self.adapter.adamw(self.inputs.weight_decay, self.cursor.step)
        self.snapshots = self.adapter.snapshots(self.ranks)
        self._state = self.resumed
        self.started_at = self.cursor.step
        self._upload_seconds = self.adapter.state_bytes / FIRST_UPLOAD_BYTES_PER_SECOND

    def run(self) -> None:
        """Runs to the last step. Raises ProgramError (Diverged, Terminated), Superseded, StoreError."""
        gc.collect()
        # A full garbage collection over the objects of torch and transformers can stop every thread for a second.
        gc.freeze()
        with Publisher() as publisher:
            self._saved_at = self._settled_at = self.clock()
            self._ended = moment(self.ranks.device)
            step, pending = self.cursor.step, None
            if step in self.checkpoints:
                self._publish(publisher)
            while step < self.steps:
                publisher.check()
                step += 1
                reading = self._launch(step, self._state_is_due(publisher, step))
                request = RankRequest.NOTHING if pending is None else self._settle(*pending)
                pending = (step, reading)
                if request or step in self.saves or not reading.on_its_way:
                    request |= self._settle(*pending)
                    pending = None
                if request or step in self.saves:
                    self._publish(publisher)
                    if RankRequest.END in request and step < self.steps:
                        publisher.wait()
                        raise Terminated

    def _launch(self, step: int, state_is_due: bool) -> StepReading:
        indices = self._consumed_by(step)
        return optimizer_step(
            self.trainer.loss_sum,
            self.adapter,
            self.optimizer,
            self._micro_batches(indices, step),
            supervised_tokens(self.data.rows, indices),
            self._rate(step),
            self.inputs.gradient_clip,
            self.ranks,
            self.terminated.is_set(),
            self.snapshots.hold_writes,
            state_is_due,
        )

    def _micro_batches(self, indices: Sequence[int], step: int) -> Sequence[Batch]:
        return self.trainer.micro_batches(
            self.data.rows, indices, self.micro_batch_tokens, self.ranks.rank, self.ranks.count, step
        )

    def _settle(self, step: int, reading: StepReading) -> RankRequest:
        """Counts a computed step. Returns the flags that the ranks sent with it. Raises ProgramError if it diverged."""
        loss_sum, norm, request = reading.wait()
        indices = self._consumed_by(step)
        supervised = supervised_tokens(self.data.rows, indices)
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise ProgramError(
                ExitCode.DIVERGED,
                "Diverged",
                f"step {step}: loss {loss_sum / supervised}, gradient norm {norm}; the losses before it were "
                f"{[round(metric.loss, 3) for metric in self.metrics[-3:]]}. Lower learningRate, or state gradientClip",
            )
        seconds = self._seconds_of(reading)
        tokens = int(sum(self.data.rows.kept[index] for index in indices))
        self.cursor = self.cursor.model_copy(
            update={
                "step": step,
                "tokens": self.cursor.tokens + tokens,
                "interval_loss_sum": self.cursor.interval_loss_sum + loss_sum,
                "interval_supervised_tokens": self.cursor.interval_supervised_tokens + supervised,
                "train_seconds": self.cursor.train_seconds + seconds,
            }
        )
        self.metrics.append(
            Metric(
                step=step,
                samples=samples_after(self.inputs, step),
                loss=loss_sum / supervised,
                learning_rate=self._rate(step),
                gradient_norm=norm,
                tokens=tokens,
                supervised_tokens=supervised,
                tokens_per_second=tokens / max(seconds, 1e-9),
            )
        )
        self._report("training")
        return request

    def _seconds_of(self, reading: StepReading) -> float:
        """Returns the seconds from the end of the step before to the end of this one: on a GPU by its clock, because it
        is read later.
        """
        now = self.clock()
        host, self._settled_at = now - self._settled_at, now
        before, self._ended = self._ended, reading.arrived
        return host if before is None or reading.arrived is None else before.elapsed_time(reading.arrived) / 1e3

    def _publish(self, publisher: Publisher) -> None:
        """Publishes the resume state of the cursor's step, then its checkpoint if it is one; on rank 0, in parallel
        with the training.
        """
        cursor, metrics, step = self.cursor, list(self.metrics), self.cursor.step
        record = self._checkpoint_record() if step in self.checkpoints else None
        if record is not None:
            self.cursor = cursor.model_copy(update={"interval_loss_sum": 0.0, "interval_supervised_tokens": 0})
        if self.leader is None:
            self.snapshots.take()
            return
        publisher.wait()
        self._saved_at = begun = self.clock()
        leader, snapshot = self.leader, self.snapshots.take()
        state, parent = store_keys.state_marker(step), self._state
        self._state = state

        def work() -> None:
            snapshot.wait()
            with tempfile.TemporaryDirectory(prefix="potstill-train-") as name:
                folder = Path(name)
                if state != parent:
                    files = write_state(folder, snapshot.vectors, cursor, metrics)
                    leader.commit(state, files, StateRecord(step=step, samples=metrics[-1].samples), parent=parent)
                if record is not None:
                    files = self.trainer.write_checkpoint(self.adapter.named(snapshot.vectors["values"]), folder)
                    marker = store_keys.checkpoint_marker(record.samples)
                    leader.commit(marker, files, self._with_weights(record, files), parent=state)
            prune_states(leader.store, leader.task.unit, newest=state)
            if state != parent:
                self._upload_seconds = self.clock() - begun

        publisher.submit(work)

    def _checkpoint_record(self) -> CheckpointRecord:
        held_out = self.data.validation
        validation_loss = None
        if held_out:
            batches = self._micro_batches(held_out, self.cursor.step)
            tokens = supervised_tokens(self.data.rows, held_out)
            validation_loss = mean_loss(self.trainer.loss_sum, batches, tokens, self.ranks)
        return CheckpointRecord(
            samples=self.checkpoints[self.cursor.step],
            step=self.cursor.step,
            learning_rate=self._rate(self.cursor.step),
            loss=self.cursor.interval_loss_sum / self.cursor.interval_supervised_tokens,
            validation_loss=validation_loss,
            tokens=self.cursor.tokens,
            canaries=self.canaries(),
        )

    def _with_weights(self, record: CheckpointRecord, files: Mapping[str, Path]) -> CheckpointRecord:
        """Returns the record of the written files; for whole weights with their content."""
        if self.inputs.type == "lora":
            return record
        sums = {name: hash_file(path) for name, path in files.items() if is_counted(name)}
        content = content_of_sums(store_keys.checkpoint_marker(record.samples), sums)
        return record.model_copy(update={"weights": "model", "model_content": content})

    def _state_is_due(self, publisher: Publisher, step: int) -> bool:
        """Returns whether a state is due by time, before `step` is launched.

        Only rank 0 decides, because all ranks must save and end at the same step. A state is not due while another one
        is being uploaded, nor if the next save, which waits for the upload, is closer than the duration of the last
        one: training does not wait for a slow store.
        """
        if self.leader is None or not self.metrics or not publisher.idle:
            return False
        if self.clock() - self._saved_at < self.task.save_state_every_seconds:
            return False
        between = min(save for save in self.saves if save >= step) - (step + 1)
        return between * self._step_seconds() > self._upload_seconds

    def _step_seconds(self) -> float:
        """Returns the mean of the last steps."""
        recent = self.metrics[-20:]
        return sum(metric.tokens / metric.tokens_per_second for metric in recent) / len(recent)

    def _consumed_by(self, step: int) -> tuple[int, ...]:
        size = self.inputs.batch_size
        return self.data.order[(step - 1) * size : step * size]

    def _rate(self, step: int) -> float:
        inputs = self.inputs
        return learning_rate(inputs.learning_rate, inputs.schedule, inputs.warmup_steps, self.steps, step)

    def _report(self, phase: str) -> None:
        if self.leader is None:
            return
        recent = self.metrics[-20:]
        seconds = self._step_seconds()
        self.leader.progress(
            Progress(
                attempt=self.task.number,
                updated=self.leader.now(),
                phase=phase,
                done=self.cursor.step,
                total=self.steps,
                counted="steps",
                loss=recent[-1].loss,
                tokens_per_second=sum(metric.tokens for metric in recent) / (seconds * len(recent)),
                eta_seconds=seconds * (self.steps - self.cursor.step),
            )
        )
