"""A directory store with a base, a benchmark and committed adapters in it, and generate tasks over them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workloads.api import store_keys
from workloads.api.records import Canary, CheckpointRecord, Failure, Marker, Output, OutputsRecord
from workloads.api.tasks import AdapterSource, FileSource, GenerateMember, GenerateTask, ModelSource, Owner, pointers
from workloads.api.units import (
    EngineIdentity,
    ExternalInputs,
    GenerateInputs,
    ModelContent,
    Prompting,
    Sampling,
    Template,
    UnitRef,
    unit_of,
)
from workloads.evaluate.program import evaluate
from workloads.models.adapters import CONFIG, WEIGHTS
from workloads.program import run_program
from workloads.storage.base import NotFound, Store, open_store
from workloads.storage.content_digest import directory_content
from workloads.storage.markers import commit_marker, read_marker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROBLEMS = {f"p{number}": f"What is {number} + {number}?" for number in range(6)}
TRANSFORMERS = EngineIdentity(name="transformers", version=version("transformers"), dtype="float32")


@dataclass(frozen=True)
class World:
    folder: Path
    base: Path
    engine: EngineIdentity = TRANSFORMERS
    limit_tokens: int = 16
    problems: dict[str, str] = field(default_factory=lambda: PROBLEMS)

    @property
    def url(self) -> str:
        return f"file://{self.folder / 'store'}"

    @property
    def store(self) -> Store:
        return open_store(self.url, {})

    def changed(self, **changes: Any) -> "World":
        return replace(self, **changes)

    def benchmark(self) -> FileSource:
        path = self.folder / "benchmark.jsonl"
        rows = [{"id": name, "prompt": text, "answer": "0"} for name, text in self.problems.items()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return FileSource(location=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    def model(self) -> ModelSource:
        return ModelSource(location=str(self.base), content=directory_content(self.base))

    def checkpoint(self, adapter: Path, samples: int, canaries: Sequence[Canary] = ()) -> AdapterSource:
        """The adapter's files committed as a train unit's checkpoint."""
        unit = unit_of(ExternalInputs(base_content=self.model().content, source="test"))
        marker = commit_marker(
            self.store,
            unit,
            1,
            store_keys.checkpoint_marker(samples),
            {WEIGHTS: adapter / WEIGHTS, CONFIG: adapter / CONFIG},
            CheckpointRecord(samples=samples, step=samples, canaries=tuple(canaries)),
            now=NOW,
        )
        return AdapterSource(unit=unit, marker=marker.name, content=marker.content)

    def member(self, adapter: AdapterSource | None = None, number: int = 1, **changes: Any) -> GenerateMember:
        benchmark = self.benchmark()
        inputs = GenerateInputs(
            model=ModelContent(base=self.model().content, adapter=adapter.content if adapter else None),
            benchmark_content=benchmark.sha256,
            problems=tuple(self.problems),
            prompting=Prompting(template=Template()),
            sampling=Sampling(),
            limit_tokens=self.limit_tokens,
            engine=self.engine,
        ).model_copy(update=changes)
        return GenerateMember(
            unit=unit_of(inputs),
            number=number,
            inputs=inputs,
            benchmark=benchmark,
            benchmark_name="test",
            adapter=adapter,
        )

    def order(self, *members: GenerateMember, **changes: Any) -> GenerateTask:
        """Writes the task and its pointers to the store."""
        task = GenerateTask(
            unit=members[0].unit,
            number=members[0].number,
            owner=Owner(experiment="test", uid8="00000000"),
            created=NOW,
            base=self.model(),
            members=members,
            **changes,
        )
        for order in (task, *pointers(task)):
            self.store.put_new(order.key, order.to_json())
        return task

    def run(self, task: GenerateTask) -> int:
        return run_program(GenerateTask, evaluate, [task.key], {"POTSTILL_STORE": self.url})

    def marker(self, unit: UnitRef) -> Marker | None:
        return read_marker(self.store, unit, store_keys.OUTPUTS)

    def outputs(self, unit: UnitRef) -> list[Output]:
        marker = self.marker(unit)
        assert marker is not None, f"{unit} has no outputs"
        lines = self.store.get(marker.files[0].key).splitlines()
        return [Output.model_validate_json(line) for line in lines]

    def record(self, unit: UnitRef) -> OutputsRecord:
        marker = self.marker(unit)
        assert marker is not None
        assert isinstance(marker.record, OutputsRecord)
        return marker.record

    def failure(self, member: GenerateMember) -> Failure | None:
        try:
            return Failure.model_validate_json(self.store.get(store_keys.failure_key(member.unit, member.number)))
        except NotFound:
            return None
