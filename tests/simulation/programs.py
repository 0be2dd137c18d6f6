"""The programs of the simulation: they keep the contract as the real ones do (claims, `publish`, resume states), and make
files whose content differs from process to process, as on GPUs."""

import json
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from workloads.api import store_keys
from workloads.api.model import sha256_of
from workloads.api.records import (
    BudgetCounts,
    CheckpointRecord,
    ExitCode,
    Failure,
    GradesRecord,
    OutputsRecord,
    Progress,
    Record,
    ReportRecord,
    StateRecord,
    TrainRecord,
)
from workloads.api.tasks import (
    GenerateMember,
    GenerateTask,
    GradeMember,
    GradeTask,
    ReportTask,
    RunnableTask,
    TrainTask,
    pointers,
)
from workloads.api.units import UnitRef
from workloads.storage.base import AlreadyExists, Store, StoreError
from workloads.storage.markers import (
    Corrupt,
    Superseded,
    commit_marker,
    list_markers,
    newest_state,
    prune_states,
    read_marker,
)

TOKENIZER = b"tokenizer"


class Program:
    """One process. `nonce`: random content of its files, besides the required. `work`: passes the time of the work.

    `notify`: writes a notice, or loses it.
    """

    def __init__(
        self,
        store: Store,
        task: RunnableTask,
        nonce: str,
        work: Callable[[], None],
        clock: Callable[[], datetime],
        notify: Callable[[UnitRef, int], None],
    ) -> None:
        self.store, self.task, self.nonce, self.work, self.clock = store, task, nonce, work, clock
        self.notify = notify

    def run(self) -> int:
        """Returns the exit code. A failure is written first, like in `run_program`."""
        self.notify(self.task.unit, self.task.number)
        try:
            self._dispatch()
        except Superseded as error:
            return self._failed(ExitCode.SUPERSEDED, "Superseded", error)
        except Corrupt as error:
            return self._failed(ExitCode.BAD_DATA, "CorruptFiles", error)
        except StoreError as error:
            return self._failed(ExitCode.STORE_UNAVAILABLE, "StoreUnavailable", error)
        return 0

    def _failed(self, code: ExitCode, reason: str, error: Exception) -> int:
        failure = Failure(exit_code=code, reason=reason, message=str(error))
        try:
            self.store.put(store_keys.failure_key(self.task.unit, self.task.number), failure.to_json())
        except StoreError:
            return int(code)
        return int(code)

    def _dispatch(self) -> None:
        match self.task:
            case TrainTask():
                self._train(self.task)
            case GenerateTask() | GradeTask():
                self._members(self.task)
            case ReportTask():
                record = ReportRecord(
                    manifest_sha256=self.task.inputs.manifest_content, report_version=self.task.inputs.report_version
                )
                self.commit(self.task.unit, self.task.number, store_keys.REPORT, {"report.md": ""}, record)

    def commit(self, unit: UnitRef, number: int, name: str, files: dict[str, str], record: Record) -> None:
        """`files`: names and the beginning of their content; the nonce follows."""
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            paths = {file: Path(folder) / file for file in files}
            for file, path in paths.items():
                path.write_text(files[file] or f"{unit.digest} {name} {self.nonce}")
            commit_marker(
                self.store, unit, number, name, paths, record, now=self.clock(), clock=lambda: self.clock().timestamp()
            )
        self.notify(unit, number)

    def progress(self, phase: str, loading: str | None = None) -> None:
        told = Progress(
            attempt=self.task.number, updated=self.clock(), phase=phase, done=0, total=1, counted="outputs",
            loading=loading,
        )  # fmt: skip
        try:
            self.store.put(store_keys.progress_key(self.task.unit, self.task.number), told.to_json())
        except StoreError:
            return

    def _train(self, task: TrainTask) -> None:
        unit, number = task.unit, task.number
        if read_marker(self.store, unit, store_keys.DONE) is not None:
            return
        markers = {marker.name: marker for marker in list_markers(self.store, unit)}
        state = newest_state(markers.values())
        behind = state.record.samples if state is not None and isinstance(state.record, StateRecord) else 0
        for samples in task.inputs.checkpoints:
            if samples <= behind:
                continue
            self.work()
            self.progress("training")
            step = samples // task.inputs.batch_size
            record = CheckpointRecord(samples=samples, step=step)
            files = {"adapter_model.safetensors": "", "adapter_config.json": "{}"}
            if store_keys.checkpoint_marker(samples) not in markers:
                self.commit(unit, number, store_keys.checkpoint_marker(samples), files, record)
            name = store_keys.state_marker(step)
            self.commit(unit, number, name, {"state.bin": ""}, StateRecord(step=step, samples=samples))
            prune_states(self.store, unit)
        trained = TrainRecord(
            samples=task.inputs.samples, steps=task.inputs.samples // task.inputs.batch_size, data=None,
            final_loss=1.0, train_seconds=1.0, tokens_per_second=1.0, device="cpu", devices=1, versions={},
        )  # fmt: skip
        metrics = json.dumps({"step": 1, "samples": 50, "loss": 1.0, "learningRate": 1e-4}) + "\n"
        self.commit(unit, number, store_keys.DONE, {"metrics.jsonl": metrics}, trained)

    def _members(self, task: GenerateTask | GradeTask) -> None:
        """Yields each member whose number is this task's, and that is neither closed nor done."""
        own = {pointer.unit: pointer for pointer in pointers(task)}
        for member in task.members:
            pointer = own.get(member.unit)
            if pointer is not None:
                try:
                    self.store.put_new(pointer.key, pointer.to_json())
                except AlreadyExists:
                    continue
            name = store_keys.OUTPUTS if isinstance(member, GenerateMember) else store_keys.GRADES
            if self.store.head(store_keys.end_key(member.unit, member.number)) is not None:
                continue
            if read_marker(self.store, member.unit, name) is not None:
                continue
            self.progress("loading", loading=member.unit.digest)
            self.work()
            if isinstance(member, GenerateMember):
                self._generate(member)
            else:
                self._grade(member)
            self.progress("working")

    def _generate(self, member: GenerateMember) -> None:
        rows = [
            {
                "problem": problem, "promptSha256": sha256_of(problem.encode()), "promptTokens": 3,
                "tokenIds": [1, 2, 3], "text": self.nonce, "finishReason": "stop",
            }
            for problem in member.inputs.problems
        ]  # fmt: skip
        tokenizer = sha256_of(TOKENIZER)
        self.store.put_new(store_keys.blob_key(tokenizer), TOKENIZER)
        record = OutputsRecord(
            engine=member.inputs.engine, outputs=len(rows), generated_tokens=3 * len(rows),
            finish_reasons={"stop": len(rows)}, prompts_sha256=sha256_of(b"prompts"),
            tokenizer_sha256=tokenizer, seconds=1.0, versions={},
        )  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.commit(member.unit, member.number, store_keys.OUTPUTS, {"outputs.jsonl": text}, record)

    def _grade(self, member: GradeMember) -> None:
        outputs = read_marker(self.store, member.outputs, store_keys.OUTPUTS)
        assert outputs is not None, f"{member.outputs} has no outputs"
        assert isinstance(outputs.record, OutputsRecord)
        assert self.store.get(store_keys.blob_key(outputs.record.tokenizer_sha256)) == TOKENIZER
        rows = [json.loads(line) for line in self.store.get(outputs.files[0].key).splitlines()]
        budgets = member.inputs.budgets
        graded = [
            {"problem": row["problem"], "budgetTokens": budget, "tokens": 3, "ended": True, "completed": True,
             "verdict": "right"}
            for row in rows for budget in budgets
        ]  # fmt: skip
        counts = tuple(
            BudgetCounts(
                budget=budget, outputs=len(rows), completed=len(rows), right=len(rows), right_and_completed=len(rows),
                wrong=0, no_answer=0, errors=0, causes={},
            )
            for budget in budgets
        )  # fmt: skip
        record = GradesRecord(budgets=counts, grader_version=member.inputs.grader_version, seconds=1.0, versions={})
        text = "".join(json.dumps(one) + "\n" for one in graded)
        self.commit(member.unit, member.number, store_keys.GRADES, {"grades.jsonl": text}, record)
