"""A snapshot has the content of the store. It is Unknown if the store cannot be read."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from controller.apply_actions import act
from controller.planner.actions import Counts, Decision
from controller.planner.planner import decide
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import JobsSnapshot, StoreSnapshot, Unknown
from tests.controller.experiments import START, experiment, run
from tests.controller.stores import TRAINED
from tests.controller.tiny_program import commit
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import CheckpointRecord, Progress, TaskEnd
from workloads.api.tasks import GenerateTask, MemberPointer, Offer, Owner, RunnableTask, TaskRef, parse_task
from workloads.api.units import UnitRef
from workloads.storage.base import Store, StoreError, open_store


class Recorder:
    """An executor that only records the tasks that it should start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def view(self) -> JobsSnapshot:
        return JobsSnapshot({})

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        return decide(view)

    def gone(self, owners: object) -> frozenset[Owner]:
        return frozenset()

    def start(self, task: RunnableTask) -> None:
        self.started.append(task.key)

    def stop(self, key: str) -> None: ...

    def discard(self, key: str) -> None: ...

    def fetch_weights(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def begin(store: Store) -> tuple[FrozenExperiment, Recorder]:
    """One round of a new experiment."""
    frozen, executor = experiment((run("a", (50,)),), ("sums",)), Recorder()
    seen = SnapshotReader(store).read(frozen, None)
    for action in decide(frozen, seen, executor.view(), START).actions:
        assert not act(action, frozen, store, executor, START).lost_race
    return frozen, executor


def observed(reader: SnapshotReader, frozen: FrozenExperiment) -> StoreSnapshot:
    seen = reader.read(frozen, None)
    assert isinstance(seen, StoreSnapshot), seen
    return seen


def test_tasks_and_pointers_are_seen_as_they_were_written(store: Store) -> None:
    frozen, executor = begin(store)
    seen = observed(SnapshotReader(store), frozen)
    tasks = [attempt.task for view in seen.units.values() for attempt in view.attempts]
    assert sorted(task.type for task in tasks) == ["generate", "member", "train"]
    assert sorted(task.key for task in tasks if not isinstance(task, MemberPointer)) == sorted(executor.started)


def test_progress_is_read_again_when_it_changes(store: Store) -> None:
    frozen, _ = begin(store)
    reader, unit = SnapshotReader(store), train_unit(frozen.runs[0])
    for done in (1, 2):
        progress = Progress(attempt=1, updated=START, phase="training", done=done, total=9, counted="steps")
        store.put(store_keys.progress_key(unit, 1), progress.to_json())
        attempt = observed(reader, frozen).unit(unit).attempts[0]
        assert attempt.progress == progress


def test_another_writers_task_stops_the_round(store: Store) -> None:
    """Two controllers saw the same state and decide one after the other: the second finds the first's task."""
    frozen, executor = experiment((run("a", (50,)),), ()), Recorder()
    seen = SnapshotReader(store).read(frozen, None)
    first = decide(frozen, seen, executor.view(), START).actions[0]
    second = decide(frozen, seen, executor.view(), START + timedelta(seconds=1)).actions[0]
    assert not act(first, frozen, store, executor, START).lost_race
    assert act(second, frozen, store, executor, START).lost_race


def test_the_lead_of_another_experiments_group_is_seen(store: Store) -> None:
    begin(store)
    other = experiment((run("c", (50,)),), ("sums",), name="other", uid8="0000beef", base_full=False)
    rest = next(part for part in other.benchmarks[0].parts if part.name == "rest")
    only_rest = other.benchmarks[0].model_copy(update={"base_parts": (rest.name,)})
    other = other.model_copy(update={"benchmarks": (only_rest,)})
    seen = observed(SnapshotReader(store), other)
    leads = [a.task for view in seen.units.values() for a in view.attempts if isinstance(a.task, GenerateTask)]
    assert [lead.owner.experiment for lead in leads] == ["distill"]
    decision = decide(other, seen, Recorder().view(), START)
    assert "waits for experiment distill (attempt 1)" in {line.message for line in decision.status.evaluations}
    told = decision.status.condition("EvaluationsComplete")
    assert told is not None
    assert told.message.endswith("; 1 not started here: waits for experiment distill (attempt 1)")


def test_a_closed_engine_is_seen_with_what_was_offered_to_it(store: Store) -> None:
    """A task that it took must not be started elsewhere, and ends like the engine."""
    frozen, _ = begin(store)
    tasks = [store.get(info.key) for info in store.list("") if re.search(r"tasks/1.json$", info.key)]
    [host] = [task for task in map(parse_task, tasks) if isinstance(task, GenerateTask)]
    store.put_new(store_keys.offer_key(host.unit, 1, 1), Offer(task_key="somewhere/tasks/1.json").to_json())
    store.put_new(store_keys.offer_key(host.unit, 1, 2), Offer(task_key=None).to_json())
    end = TaskEnd(
        number=1, outcome="lost", reason="Lost", message="x", counts_as_failure=False, retry=True, ended=START
    )
    store.put_new(store_keys.end_key(host.unit, 1), end.to_json())
    [attempt] = observed(SnapshotReader(store), frozen).unit(host.unit).attempts
    assert attempt.end == end
    assert attempt.offers == ("somewhere/tasks/1.json", None)


def test_the_engine_that_took_another_experiments_task_is_seen(store: Store) -> None:
    frozen, _ = begin(store)
    away = TaskRef(unit=UnitRef(kind="generate", digest="f" * 64), number=3)
    tasks = [(info.key, store.get(info.key)) for info in store.list("") if re.search(r"tasks/1.json$", info.key)]
    for key, data in tasks:
        task = parse_task(data)
        if isinstance(task, GenerateTask):
            store.put(key, task.model_copy(update={"host": away}).to_json())
    assert away.unit in observed(SnapshotReader(store), frozen).units


JUNK = [b"", b"{}", b"\xff", b'{"schemaVersion": 2}', b'["a list"]']


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize(
    "name", ["attempts/1/progress.json", "attempts/1/failure.json", "markers/state-000000009.json"]
)
def test_optional_records_that_cannot_be_read_are_left_out(store: Store, name: str, junk: bytes) -> None:
    frozen, _ = begin(store)
    unit = train_unit(frozen.runs[0])
    before = observed(SnapshotReader(store), frozen)
    store.put(store_keys.unit_prefix(unit) + name, junk)
    assert observed(SnapshotReader(store), frozen) == before


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", ["tasks/1.json", "tasks/1.end.json", "tasks/7.json", "markers/done.json"])
def test_another_record_that_cannot_be_read_fails_its_unit_by_name_and_no_other(
    store: Store, name: str, junk: bytes
) -> None:
    frozen, executor = begin(store)
    unit = train_unit(frozen.runs[0])
    key = store_keys.unit_prefix(unit) + name
    store.put(key, junk)
    seen = observed(SnapshotReader(store), frozen)
    assert [view.unit for view in seen.units.values() if view.unreadable] == [unit]
    decision = decide(frozen, seen, executor.view(), START)
    [run_line] = decision.status.runs
    assert (run_line.state, key in run_line.message) == ("failed", True)
    assert {line.state for line in decision.status.evaluations if line.stage == "train"} == {"failed"}
    assert {line.state for line in decision.status.evaluations if line.stage == "generate"} == {"running"}
    store.delete(key)
    assert not any(view.unreadable for view in observed(SnapshotReader(store), frozen).units.values())


def test_a_damaged_or_misplaced_marker_is_not_a_result(store: Store) -> None:
    frozen, _ = begin(store)
    unit, name = train_unit(frozen.runs[0]), store_keys.checkpoint_marker(50)
    commit(store, unit, 1, name, {"w": "w"}, CheckpointRecord(samples=50, step=1))
    key = store_keys.marker_key(unit, name)
    right = store.get(key)
    assert name in observed(SnapshotReader(store), frozen).unit(unit).markers
    other = UnitRef(kind="train", digest="e" * 64)
    commit(store, other, 1, name, {"w": "v"}, CheckpointRecord(samples=50, step=1))
    for wrong in (right.replace(b'"step":1', b'"step":2'), store.get(store_keys.marker_key(other, name))):
        store.put(key, wrong)
        view = observed(SnapshotReader(store), frozen).unit(unit)
        assert (list(view.markers), list(view.unreadable)) == ([], [key])


def test_a_task_or_an_end_in_anothers_place_fails_its_unit_by_name(store: Store) -> None:
    frozen, _ = begin(store)
    unit = train_unit(frozen.runs[0])
    generating = next(info.key for info in store.list("units/generate/") if info.key.endswith("tasks/1.json"))
    end = TaskEnd(
        number=2, outcome="lost", reason="Lost", message="x", counts_as_failure=False, retry=True, ended=START
    )
    for key, data in (
        (store_keys.task_key(unit, 2), store.get(generating)),
        (store_keys.end_key(unit, 1), end.to_json()),
    ):
        store.put(key, data)
        assert "it was copied there" in observed(SnapshotReader(store), frozen).unit(unit).unreadable[key]
        store.delete(key)


def test_a_checkpoint_marker_of_a_finished_training_that_cannot_be_read_fails_its_evaluations_by_name(
    store: Store,
) -> None:
    frozen, executor = begin(store)
    unit, key = (
        train_unit(frozen.runs[0]),
        store_keys.marker_key(train_unit(frozen.runs[0]), store_keys.checkpoint_marker(50)),
    )
    commit(store, unit, 1, store_keys.DONE, {"metrics.jsonl": ""}, TRAINED)
    store.put(key, b"junk")
    status = decide(
        frozen, observed(SnapshotReader(store), frozen), executor.view(), START, "run", Counts(1, 0, 0)
    ).status
    failed = [line for line in status.evaluations if line.state == "failed"]
    assert [key in line.message for line in failed] == [True]


def test_a_store_that_does_not_answer_is_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, _ = begin(store)

    def refuse(prefix: str) -> None:
        raise StoreError(f"LIST {prefix}: 403 AccessDenied")

    monkeypatch.setattr(store, "list", refuse)
    seen = SnapshotReader(store).read(frozen, None)
    assert isinstance(seen, Unknown)
    assert "403" in seen.message


def test_a_closed_task_is_not_started(store: Store) -> None:
    frozen, executor = experiment((run("a", (50,)),), ()), Recorder()
    write, start = decide(frozen, SnapshotReader(store).read(frozen, None), executor.view(), START).actions
    act(write, frozen, store, executor, START)
    later = decide(
        frozen, SnapshotReader(store).read(frozen, None), executor.view(), START + timedelta(seconds=200)
    ).actions
    assert [type(action).__name__ for action in later] == ["CloseTask"]
    act(later[0], frozen, store, executor, START)
    assert act(start, frozen, store, executor, START).lost_race
    assert executor.started == []
