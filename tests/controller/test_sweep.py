"""The sweep never deletes an object that an existing experiment or a running task needs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.gc.sweep import Doomed, StoreListing, plan_sweep, unit_key
from controller.planner.round import owner_of
from tests.controller.experiments import START, experiment, run
from tests.controller.stores import DAY, NOW, Drawn, stores
from workloads.api import store_keys
from workloads.api.records import StateRecord
from workloads.api.tasks import ReportTask
from workloads.api.units import ReportInputs, UnitRef, unit_of
from workloads.storage.base import ObjectInfo

FLOORS = st.sampled_from([0.0, 3600.0, 7 * DAY, 14 * DAY])


def unit_of_key(key: str) -> UnitRef | None:
    found = unit_key().fullmatch(key)
    return UnitRef(kind=found[1], digest=found[2]) if found else None


def keys(plan: tuple[Doomed, ...]) -> list[str]:
    return [info.key for doomed in plan for info in doomed.objects]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(drawn=stores(), floor=FLOORS)
def test_objects_that_an_experiment_or_a_running_task_needs_are_never_swept(drawn: Drawn, floor: float) -> None:
    going = keys(plan_sweep(drawn.snapshot, NOW, floor))
    assert len(going) == len(set(going))
    for name, needed in drawn.needed.items():
        assert not needed & set(going), name
    assert not drawn.running & {unit_of_key(key) for key in going}
    generating = any(unit.kind == "generate" for unit in drawn.running)
    assert not (generating and any(key.startswith(store_keys.BLOBS) for key in going))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(drawn=stores(), floor=FLOORS)
def test_nothing_goes_that_is_younger_than_the_floor(drawn: Drawn, floor: float) -> None:
    plan = plan_sweep(drawn.snapshot, NOW, floor)
    assert all(NOW - info.modified >= floor for doomed in plan for info in doomed.objects)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(drawn=stores())
def test_without_a_minimum_age_only_needed_objects_and_those_of_attempts_stay(drawn: Drawn) -> None:
    """If all experiments are deleted and nothing is running, nothing is kept."""
    forgotten = replace(drawn.snapshot, experiments=(), open_tasks=())
    assert set(keys(plan_sweep(forgotten, NOW, 0.0))) == {info.key for info in drawn.snapshot.objects}
    idle = replace(drawn.snapshot, open_tasks=())
    left = {info.key for info in idle.objects} - set(keys(plan_sweep(idle, NOW, 0.0)))
    needed = set().union(*drawn.needed.values())
    for key in left - needed:
        unit = unit_of_key(key)
        assert unit is not None, key
        state = [m for m in idle.markers.get(unit, {}).values() if isinstance(m.record, StateRecord)]
        of_state = {store_keys.marker_key(unit, m.name) for m in state} | {file.key for m in state for file in m.files}
        assert key.endswith("log.txt") or "/tasks/" in key or key in of_state, key


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(drawn=stores())
def test_resume_states_go_with_the_end_of_their_training_and_not_before(drawn: Drawn) -> None:
    idle = replace(drawn.snapshot, open_tasks=())
    going = set(keys(plan_sweep(idle, NOW, 0.0)))
    for unit, markers in idle.markers.items():
        for name, marker in markers.items():
            if isinstance(marker.record, StateRecord) and store_keys.DONE in markers:
                assert {store_keys.marker_key(unit, name), *(file.key for file in marker.files)} <= going


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(drawn=stores(), floor=FLOORS)
def test_swept_once_there_is_nothing_left_to_sweep(drawn: Drawn, floor: float) -> None:
    before = drawn.snapshot
    going = set(keys(plan_sweep(before, NOW, floor)))
    markers = {
        unit: {name: marker for name, marker in found.items() if store_keys.marker_key(unit, name) not in going}
        for unit, found in before.markers.items()
    }
    after = replace(
        before,
        objects=tuple(info for info in before.objects if info.key not in going),
        markers=markers,
    )
    assert plan_sweep(after, NOW, floor) == ()


def test_the_report_of_a_replaced_manifest_is_deleted_although_its_task_is_open() -> None:
    """Its `potstill run` was killed while the report was made, and the next one wrote another manifest."""
    frozen = experiment((run("a", (50,)),))
    unit = unit_of(ReportInputs(manifest_content="0" * 64))
    task = ReportTask(
        unit=unit, number=1, owner=owner_of(frozen), created=START, inputs=ReportInputs(manifest_content="0" * 64)
    )

    def planned(days: float) -> list[str]:
        written = ObjectInfo(task.key, 100, "etag", NOW - days * DAY)
        return keys(plan_sweep(StoreListing((written,), (frozen,), {}, (task,), {}), NOW, 7 * DAY))

    assert planned(days=6) == []
    assert planned(days=8) == [task.key]


def test_old_notices_go_and_young_ones_stay() -> None:
    old, young = (ObjectInfo(store_keys.notice_key(UnitRef(kind="train", digest=c * 64), 1), 2, c, NOW - age)
                  for c, age in (("a", 8 * DAY), ("b", DAY)))  # fmt: skip
    plan = plan_sweep(StoreListing((old, young), (), {}, (), {}), NOW, 7 * DAY)
    assert [(doomed.why, doomed.objects) for doomed in plan] == [("old notice", (old,))]
