"""Random stores for the sweep's tests: experiments that share units, in any state, existing or deleted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from controller.gc.sweep import StoreListing
from controller.planner.evaluations import resolve_evaluations
from controller.planner.round import owner_of
from controller.snapshot.types import StoreSnapshot, UnitView
from tests.controller.experiments import START, experiment, run
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.records import (
    CheckpointRecord,
    FileRef,
    GradesRecord,
    Marker,
    OutputsRecord,
    Record,
    StateRecord,
    TrainRecord,
    content_of,
)
from workloads.api.tasks import AdapterSource, GenerateMember, GenerateTask, GradeMember, GradeTask, Task, TrainTask
from workloads.api.units import UnitRef
from workloads.storage.base import ObjectInfo

DAY = 86_400.0
NOW = START.timestamp()
RUNS = tuple(run(name, (50, 100)) for name in ("r1", "r2", "r3"))
EXPERIMENTS = (
    experiment(RUNS[:2], ("sums",), name="first", uid8="00000001"),
    experiment(RUNS[1:], ("sums",), name="second", uid8="00000002"),
    experiment(RUNS[2:], ("sums",), name="third", uid8="00000003", base_full=False),
)
TOKENIZERS = tuple(sha256_of(name.encode()) for name in ("one", "another"))


@dataclass
class Drawn:
    """`needed`: by experiment, the keys of its results. `running`: the units of running tasks."""

    snapshot: StoreListing
    needed: dict[str, set[str]]
    running: set[UnitRef]


@dataclass
class _Builder:
    draw: Callable[[Any], Any]
    living: frozenset[str]
    objects: dict[str, ObjectInfo] = field(default_factory=dict)
    markers: dict[UnitRef, dict[str, Marker]] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    needed: dict[str, set[str]] = field(default_factory=lambda: {one.name: set() for one in EXPERIMENTS})
    running: set[UnitRef] = field(default_factory=set)

    def put(self, key: str, age_days: float | None = None) -> None:
        age = self.draw(st.sampled_from([0.0, 1.0, 8.0, 30.0])) if age_days is None else age_days
        self.objects[key] = ObjectInfo(key, 10, "etag", NOW - age * DAY)

    def commit(self, unit: UnitRef, name: str, files: tuple[str, ...], record: Record) -> set[str]:
        prefix = f"{store_keys.attempt_prefix(unit, 1)}{name}/"
        refs = tuple(FileRef(name=file, key=prefix + file, size=10, sha256=sha256_of(file.encode())) for file in files)
        content = sha256_of(f"{unit.digest}{name}{content_of(refs)}".encode())
        marker = Marker(unit=unit, name=name, attempt=1, content=content, files=refs, created=START, record=record)
        self.markers.setdefault(unit, {})[name] = marker
        keys = {store_keys.marker_key(unit, name), *(ref.key for ref in refs)}
        for key in keys:
            self.put(key)
        return keys

    def junk(self, unit: UnitRef) -> None:
        for key in self.draw(st.sets(st.sampled_from(["1/checkpoint/lost.bin", "2/half.bin", "1/log.txt"]))):
            self.put(f"{store_keys.unit_prefix(unit)}attempts/{key}")
        self.put(store_keys.task_key(unit, 1))
        self.put(store_keys.end_key(unit, 1))

    def perhaps_running(self, task: Task, *reads: UnitRef) -> None:
        if task.key in self.objects or self.draw(st.integers(0, 5)):
            return
        owner_lives = task.owner.experiment in self.living
        self.put(task.key)
        unit_prefix = store_keys.unit_prefix(task.unit)
        written = max(info.modified for key, info in self.objects.items() if key.startswith(unit_prefix))
        self.tasks.append(task)
        if owner_lives or NOW - written < DAY:
            self.running.update({task.unit, *reads})


def _train(b: _Builder, frozen: FrozenExperiment, index: int) -> None:
    one = frozen.runs[index]
    unit = train_unit(one)
    if unit not in b.markers:
        b.markers[unit] = {}
        b.junk(unit)
        for samples in one.checkpoints[: b.draw(st.integers(0, 2))]:
            files = ("adapter_model.safetensors", "adapter_config.json")
            b.commit(
                unit, store_keys.checkpoint_marker(samples), files, CheckpointRecord(samples=samples, step=samples)
            )
        done = b.draw(st.booleans())
        for step in b.draw(st.sets(st.integers(1, 3), max_size=2)):
            b.commit(unit, store_keys.state_marker(step), ("state.bin",), StateRecord(step=step, samples=step))
        if done:
            b.commit(unit, store_keys.DONE, ("metrics.jsonl",), TRAINED)
    for name, marker in b.markers[unit].items():
        if not (isinstance(marker.record, StateRecord) and store_keys.DONE in b.markers[unit]):
            b.needed[frozen.name] |= {store_keys.marker_key(unit, name), *(file.key for file in marker.files)}


TRAINED = TrainRecord(
    samples=100,
    steps=2,
    data=None,
    final_loss=1.0,
    train_seconds=1.0,
    tokens_per_second=None,
    device="cpu",
    devices=1,
    versions={},
)


def _outputs(frozen: FrozenExperiment, tokenizer: str) -> OutputsRecord:
    return OutputsRecord(
        engine=frozen.engine,
        outputs=1,
        generated_tokens=1,
        finish_reasons={},
        prompts_sha256="0" * 64,
        tokenizer_sha256=tokenizer,
        seconds=1.0,
        versions={},
    )


def _evaluations(b: _Builder, frozen: FrozenExperiment) -> None:
    """Stage by stage: committed results determine the next units."""
    for stage in ("generate", "grade"):
        view = StoreSnapshot({unit: UnitView(unit, markers=found) for unit, found in b.markers.items()})
        for piece in resolve_evaluations(frozen, view):
            unit = piece.generate_unit if stage == "generate" else piece.grade_unit
            if unit is None:
                continue
            if unit not in b.markers:
                b.markers[unit] = {}
                b.junk(unit)
                tokenizer = b.draw(st.sampled_from(TOKENIZERS))
                if b.draw(st.booleans()):
                    if stage == "generate":
                        b.commit(unit, store_keys.OUTPUTS, ("outputs.jsonl",), _outputs(frozen, tokenizer))
                    else:
                        graded = GradesRecord(budgets=(), grader_version="grade-1", seconds=1.0, versions={})
                        b.commit(unit, store_keys.GRADES, ("grades.jsonl",), graded)
            for name, marker in b.markers[unit].items():
                b.needed[frozen.name] |= {store_keys.marker_key(unit, name), *(file.key for file in marker.files)}
                if isinstance(marker.record, OutputsRecord):
                    b.needed[frozen.name].add(store_keys.blob_key(marker.record.tokenizer_sha256))


def _tasks(b: _Builder, frozen: FrozenExperiment) -> None:
    view = StoreSnapshot({unit: UnitView(unit, markers=found) for unit, found in b.markers.items()})
    about: dict[str, Any] = {"number": 2, "owner": owner_of(frozen), "created": START}
    for one in frozen.runs:
        assert one.data_source is not None
        unit = train_unit(one)
        b.perhaps_running(TrainTask(unit=unit, inputs=one.inputs, base=frozen.base, data=one.data_source, **about))
    for piece in resolve_evaluations(frozen, view):
        if piece.generate_unit is None or piece.generate is None:
            continue
        source, name = piece.want.benchmark.source, piece.want.benchmark.name
        at, adapter = piece.checkpoint, None
        if at is not None:
            adapter = AdapterSource(unit=at.unit, marker=at.name, content=at.content)
        member = GenerateMember(
            unit=piece.generate_unit,
            number=2,
            inputs=piece.generate,
            benchmark=source,
            benchmark_name=name,
            adapter=adapter,
        )
        generating = GenerateTask(unit=member.unit, base=frozen.base, members=(member,), **about)
        b.perhaps_running(generating, *([at.unit] if at is not None else []))
        if piece.grade_unit is not None and piece.grade is not None:
            graded = GradeMember(
                unit=piece.grade_unit,
                number=2,
                inputs=piece.grade,
                outputs=piece.generate_unit,
                benchmark=source,
                benchmark_name=name,
            )
            b.perhaps_running(GradeTask(unit=graded.unit, members=(graded,), **about), graded.outputs)


@st.composite
def stores(draw: Any) -> Drawn:
    living = frozenset(draw(st.sets(st.sampled_from([one.name for one in EXPERIMENTS]))))
    b = _Builder(draw, living)
    for frozen in EXPERIMENTS:
        for index in range(len(frozen.runs)):
            _train(b, frozen, index)
        _evaluations(b, frozen)
    for frozen in EXPERIMENTS:
        _tasks(b, frozen)
    for tokenizer in TOKENIZERS:
        b.put(store_keys.blob_key(tokenizer))
    snapshot = StoreListing(
        objects=tuple(b.objects[key] for key in sorted(b.objects)),
        experiments=tuple(frozen for frozen in EXPERIMENTS if frozen.name in living),
        manifests={},
        open_tasks=tuple(b.tasks),
        markers={unit: found for unit, found in b.markers.items() if found},
    )
    return Drawn(snapshot, {name: b.needed[name] for name in living}, b.running)
