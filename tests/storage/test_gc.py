"""The sweep on both stores: it deletes units completely; units that an experiment names stay."""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from controller.accept import accept
from controller.gc.collector import look, restore_parked, sweep
from controller.gc.sweep import StoreListing, plan_sweep
from controller.planner.round import owner_of
from tests.controller.experiments import experiment, run
from tests.controller.stores import TRAINED
from tests.controller.tiny_program import commit
from tests.tools.processes import wait_until
from workloads.api import store_keys
from workloads.api.evaluation_matrix import evaluation_matrix, generate_inputs, train_unit
from workloads.api.model import sha256_of
from workloads.api.records import CheckpointRecord, GradesRecord, StateRecord
from workloads.api.tasks import GenerateMember, GenerateTask
from workloads.api.units import UnitRef
from workloads.storage.base import Store, StoreError, open_store
from workloads.storage.directory import DirectoryStore
from workloads.storage.markers import Corrupt, list_markers, read_marker, verify

NAMED, FORGOTTEN = run("named", (50,)), run("forgotten", (50,))
LATER = time.time() + 30 * 86_400
FLOOR = 7 * 86_400.0
TOKENIZER = b"tokenizer"
BLOB = store_keys.blob_key(sha256_of(TOKENIZER))


def checkpoint(store: Store, unit: UnitRef) -> None:
    files = {"adapter_model.safetensors": unit.digest, "adapter_config.json": "{}"}
    commit(store, unit, 1, store_keys.checkpoint_marker(50), files, CheckpointRecord(samples=50, step=1))
    commit(store, unit, 1, store_keys.state_marker(1), {"state.bin": unit.digest}, StateRecord(step=1, samples=50))
    store.put(store_keys.log_key(unit, 1), b"log\n")


@pytest.fixture
def filled(store: Store) -> Store:
    """An experiment of one run, whose training is not finished, and the checkpoint of a run without an experiment."""
    accept(experiment((NAMED,), ("sums",)), store)
    checkpoint(store, train_unit(NAMED))
    checkpoint(store, train_unit(FORGOTTEN))
    store.put_new(BLOB, TOKENIZER)
    return store


def contents(store: Store) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list("")}


def test_units_without_an_experiment_are_deleted_completely(filled: Store) -> None:
    kept = [
        info.key
        for prefix in ("experiments/", store_keys.unit_prefix(train_unit(NAMED)))
        for info in filled.list(prefix)
    ]
    plan = plan_sweep(look(filled), LATER, FLOOR)
    swept = sweep(filled, plan, lambda: look(filled), LATER, FLOOR)
    assert (swept.objects, swept.spared) == (7, 0)
    assert [info.key for info in filled.list("")] == kept


def test_nothing_goes_while_it_is_young(filled: Store) -> None:
    assert plan_sweep(look(filled), time.time() + 60, FLOOR) == ()


def test_a_manifest_that_cannot_be_read_stops_it(filled: Store) -> None:
    filled.put(store_keys.manifest_key("elsewhere", "0000000e"), b"{}")
    with pytest.raises(Corrupt, match=r"experiments/elsewhere/0000000e/manifest\.json is not a Manifest"):
        look(filled)


def test_results_that_are_damaged_or_lost_are_found_when_they_are_looked_at_deeply(filled: Store) -> None:
    unit = UnitRef(kind="grade", digest="a" * 64)
    record = GradesRecord(budgets=(), grader_version="grade-1", seconds=1.0, versions={})
    commit(filled, unit, 1, store_keys.GRADES, {"grades.jsonl": "right\n"}, record)
    assert look(filled, deep=True).corrupt == {}
    marker = read_marker(filled, unit, store_keys.GRADES)
    assert marker is not None
    key = marker.files[0].key
    filled.put(key, b"wrong\n")
    assert look(filled).corrupt == {}
    assert "hashes to" in look(filled, deep=True).corrupt[unit]
    filled.delete(key)
    assert "is missing" in look(filled, deep=True).corrupt[unit]


@pytest.mark.parametrize("fails", [1, 2])
def test_a_sweep_whose_look_fails_leaves_everything_in_its_place(filled: Store, fails: int) -> None:
    before, looks = contents(filled), 0
    plan = plan_sweep(look(filled), LATER, FLOOR)

    def failing() -> StoreListing:
        nonlocal looks
        looks += 1
        if looks == fails:
            raise StoreError("the server is away")
        return look(filled)

    with pytest.raises(StoreError, match="away"):
        sweep(filled, plan, failing, LATER, FLOOR)
    assert contents(filled) == before


def test_a_first_look_that_saw_no_experiments_deletes_nothing_that_the_second_sees_named(filled: Store) -> None:
    before = contents(filled)
    seen = look(filled)
    unseen = StoreListing(seen.objects, (), {}, (), seen.markers)
    plan = plan_sweep(unseen, LATER, FLOOR)
    assert len([info for doomed in plan for info in doomed.objects]) > 7
    sweep(filled, plan, lambda: look(filled), LATER, FLOOR)
    named = store_keys.unit_prefix(train_unit(NAMED))
    assert {key: data for key, data in before.items() if key.startswith(named)} == {
        key: data for key, data in contents(filled).items() if key.startswith(named)
    }


class Killed(BaseException):
    """Like SIGKILL: no handler of the program runs."""


class Dying(DirectoryStore):
    """Dies at its `left`-th write."""

    left = 0

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def put(self, key: str, data: bytes) -> None:
        self._count()
        super().put(key, data)

    def put_new(self, key: str, data: bytes) -> str:
        self._count()
        return super().put_new(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


@pytest.mark.slow
def test_a_sweep_killed_at_each_of_its_writes_is_undone_or_continued_by_the_next(tmp_path: Path) -> None:
    """The same holds if a forgotten experiment is accepted again in between, and if the repair is killed too."""
    whole = open_store((tmp_path / "whole").as_uri())
    accept(experiment((NAMED,), ("sums",)), whole)
    checkpoint(whole, train_unit(NAMED))
    checkpoint(whole, train_unit(FORGOTTEN))
    whole.put_new(BLOB, TOKENIZER)
    calm = open_store(_copy(tmp_path, "whole", "calm").as_uri())
    sweep(calm, plan_sweep(look(calm), LATER, FLOOR), lambda: look(calm), LATER, FLOOR)
    for number in range(1, 100):
        dying = Dying(_copy(tmp_path, "whole", f"{number}"))
        plan = plan_sweep(look(dying), LATER, FLOOR)
        dying.left = number
        try:
            sweep(dying, plan, partial(look, dying), LATER, FLOOR)
        except Killed:
            dying.left = 1 + number % 3
            try:
                restore_parked(dying)
            except Killed:
                dying.left = 0
            assert_whole(dying, train_unit(NAMED), 2)
            if number % 2:
                accept(experiment((FORGOTTEN,), ("sums",), name="again", uid8="0000000a"), dying)
            restore_parked(dying)
            assert_whole(dying, train_unit(FORGOTTEN))
            if number % 2:
                continue
            again = open_store(dying.url)
            sweep(again, plan_sweep(look(again), LATER, FLOOR), partial(look, again), LATER, FLOOR)
            assert contents(again) == contents(calm)
        else:
            assert number > 10
            return
    raise AssertionError("it never ended")


def _copy(folder: Path, name: str, to: str) -> Path:
    return Path(shutil.copytree(folder / name, folder / to))


def assert_whole(store: Store, unit: UnitRef, markers: int | None = None) -> None:
    found = list_markers(store, unit)
    assert markers in (None, len(found))
    assert [verify(store, marker, deep=True) for marker in found] == [[]] * len(found)


def generating(store: Store) -> None:
    """A generation begins, and finds its base's tokenizer in the store."""
    frozen = experiment((NAMED,), ("sums",))
    want = next(want for want in evaluation_matrix(frozen, {}) if want.model.run is None)
    inputs = generate_inputs(frozen, want, None)
    unit = UnitRef(kind="generate", digest="b" * 64)
    source, name = want.benchmark.source, want.benchmark.name
    member = GenerateMember(unit=unit, number=1, inputs=inputs, benchmark=source, benchmark_name=name)
    about = {"owner": owner_of(frozen), "created": frozen.accepted, "members": (member,)}
    task = GenerateTask(unit=unit, number=1, base=frozen.base, **about)
    store.put_new(task.key, task.to_json())
    store.put_new(BLOB, TOKENIZER)


def test_a_tokenizer_on_which_a_starting_generation_relies_stays(filled: Store) -> None:
    """It begins between the second look and the deletions."""
    plan = plan_sweep(look(filled), LATER, FLOOR)
    then: list[Callable[[Store], None]] = [generating]

    def look_before_it_begins() -> StoreListing:
        seen = look(filled)
        if then:
            then.pop()(filled)
        return seen

    sweep(filled, plan, look_before_it_begins, LATER, FLOOR)
    assert filled.get(BLOB) == TOKENIZER


def later(store: Store, key: str) -> bool:
    """Returns whether an object written now is younger by the store's clock, which may have whole seconds only."""
    store.put("clock", b"")
    now, then = store.head("clock"), store.head(key)
    assert now is not None
    assert then is not None
    return now.modified > then.modified


def test_markers_do_not_come_back_into_a_unit_in_which_another_attempt_committed(filled: Store) -> None:
    unit, name = train_unit(FORGOTTEN), store_keys.checkpoint_marker(50)
    former = filled.get(store_keys.marker_key(unit, name))
    filled.put(store_keys.parked_key(store_keys.marker_key(unit, name)), former)
    for marker in list_markers(filled, unit):
        filled.delete(store_keys.marker_key(unit, marker.name))
    wait_until(lambda: later(filled, store_keys.parked_key(store_keys.marker_key(unit, name))), "the store's clock")
    commit(filled, unit, 2, store_keys.DONE, {"metrics.jsonl": ""}, TRAINED)
    restore_parked(filled)
    assert [marker.attempt for marker in list_markers(filled, unit)] == [2]
    assert list(filled.list(store_keys.SWEEP)) == []


def test_a_marker_in_another_units_place_stops_it(filled: Store) -> None:
    key = store_keys.marker_key(train_unit(NAMED), store_keys.checkpoint_marker(50))
    filled.put(key, filled.get(store_keys.marker_key(train_unit(FORGOTTEN), store_keys.checkpoint_marker(50))))
    with pytest.raises(Corrupt, match=rf"{key} holds the marker .* nothing is swept"):
        look(filled)


def test_a_deep_look_finds_and_deletes_a_damaged_blob(filled: Store) -> None:
    filled.put(BLOB, b"tokenizeR")
    assert look(filled).corrupt_blobs == frozenset()
    seen = look(filled, deep=True)
    assert seen.corrupt_blobs == {BLOB}
    sweep(filled, plan_sweep(seen, time.time(), FLOOR), lambda: look(filled), time.time(), FLOOR)
    assert filled.head(BLOB) is None
