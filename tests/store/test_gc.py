"""The sweep on both stores: what goes, goes whole; what an experiment names stays."""

import time

import pytest

from controller.gc import look, sweep
from controller.loop import accept
from controller.sweep import plan_sweep
from tests.controller.experiments import experiment, run
from tests.controller.tiny_program import commit
from workloads.commit import Corrupt, read_marker
from workloads.contract import layout
from workloads.contract.records import CheckpointRecord, GradesRecord, StateRecord
from workloads.contract.units import UnitRef
from workloads.contract.wanted import train_unit
from workloads.store import Store

NAMED, FORGOTTEN = run("named", (50,)), run("forgotten", (50,))
LATER = time.time() + 30 * 86_400
FLOOR = 7 * 86_400.0


def checkpoint(store: Store, unit: UnitRef) -> None:
    files = {"adapter_model.safetensors": unit.digest, "adapter_config.json": "{}"}
    commit(store, unit, 1, layout.checkpoint_marker(50), files, CheckpointRecord(samples=50, step=1))
    commit(store, unit, 1, layout.state_marker(1), {"state.bin": unit.digest}, StateRecord(step=1, samples=50))
    store.put(layout.log_key(unit, 1), b"log\n")


@pytest.fixture
def filled(store: Store) -> Store:
    """An experiment of one run, whose training is not finished, and the checkpoint of a run that no experiment has."""
    accept(experiment((NAMED,), ("sums",)), store)
    checkpoint(store, train_unit(NAMED))
    checkpoint(store, train_unit(FORGOTTEN))
    store.put_new(layout.blob_key("0" * 64), b"tokenizer")
    return store


def test_what_nobody_names_goes_whole(filled: Store) -> None:
    kept = [
        info.key for prefix in ("experiments/", layout.unit_prefix(train_unit(NAMED))) for info in filled.list(prefix)
    ]
    plan = plan_sweep(look(filled), LATER, FLOOR)
    swept = sweep(filled, plan, lambda: look(filled), LATER, FLOOR)
    assert (swept.objects, swept.spared) == (7, 0)
    assert [info.key for info in filled.list("")] == kept


def test_nothing_goes_while_it_is_young(filled: Store) -> None:
    assert plan_sweep(look(filled), time.time() + 60, FLOOR) == ()


def test_a_manifest_that_cannot_be_read_stops_it(filled: Store) -> None:
    filled.put(layout.manifest_key("elsewhere", "0000000e"), b"{}")
    with pytest.raises(Corrupt, match=r"experiments/elsewhere/0000000e/manifest\.json is no Manifest"):
        look(filled)


def test_results_that_are_damaged_or_lost_are_found_when_they_are_looked_at_deeply(filled: Store) -> None:
    unit = UnitRef(kind="grade", digest="a" * 64)
    record = GradesRecord(budgets=(), grader_version="grade-1", seconds=1.0, versions={})
    commit(filled, unit, 1, layout.GRADES, {"grades.jsonl": "right\n"}, record)
    assert look(filled, deep=True).corrupt == {}
    marker = read_marker(filled, unit, layout.GRADES)
    assert marker is not None
    key = marker.files[0].key
    filled.put(key, b"wrong\n")
    assert look(filled).corrupt == {}
    assert "hashes to" in look(filled, deep=True).corrupt[unit]
    filled.delete(key)
    assert "is missing" in look(filled, deep=True).corrupt[unit]
