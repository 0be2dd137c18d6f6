"""`potstill gc` on real stores, filled by real runs of the tiny program."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.accept import accept
from controller.cli import app
from controller.gc.collector import look, sweep
from controller.gc.sweep import StoreListing, plan_sweep
from controller.lease import acquire_key, release
from tests.controller.driver import execute, small
from tests.controller.experiments import experiment, run
from tests.controller.tiny_program import commit
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.manifest import Manifest
from workloads.api.records import CheckpointRecord, StateRecord
from workloads.storage.base import Store, open_store
from workloads.storage.markers import Corrupt, list_markers, read_marker

pytestmark = pytest.mark.slow
DAY = 86_400.0


def other() -> FrozenExperiment:
    """Shares the base's evaluations and the run `short` with `small`, and has another run."""
    runs = (run("short", (50, 100)), run("longer", (50, 100)))
    return experiment(runs, ("sums",), name="other", uid8="0000000b", limits=Limits(attempts=2, training_slots=1))


def store_of(folder: Path) -> Store:
    return open_store((folder / "store").as_uri())


def keys(store: Store, prefix: str = "") -> set[str]:
    return {info.key for info in store.list(prefix)}


def grown_old(folder: Path, days: float = 30) -> None:
    """Makes everything in the store this many days old."""
    then = time.time() - days * DAY
    for path in (folder / "store").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def gc(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["gc", str(folder / "store"), *options])
    assert done.exit_code == 0, done.output
    return done.output


def manifest(store: Store, frozen: FrozenExperiment) -> Manifest:
    return Manifest.model_validate_json(store.get(store_keys.manifest_key(frozen.name, frozen.uid8)))


def forget(store: Store, frozen: FrozenExperiment) -> None:
    for key in keys(store, store_keys.experiment_prefix(frozen.name, frozen.uid8)):
        store.delete(key)


def test_shared_units_stay_until_both_experiments_are_deleted(tmp_path: Path) -> None:
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert execute(other(), tmp_path).outcome == "Succeeded"
    store = store_of(tmp_path)
    grown_old(tmp_path)
    assert "nothing to delete" in gc(tmp_path)
    both, longer = keys(store), train_unit(other().runs[1])
    forget(store, other())
    said = gc(tmp_path)
    assert "no experiment names it" in said
    assert f"{longer}" in said
    assert "nothing was deleted" in said
    assert keys(store, "units/") == {key for key in both if key.startswith("units/")}
    assert "deleted" in gc(tmp_path, "--delete")
    assert not keys(store, store_keys.unit_prefix(longer))
    before = manifest(store, small())
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert manifest(store, small()) == before
    forget(store, small())
    grown_old(tmp_path)
    gc(tmp_path, "--delete")
    assert keys(store, "units/") == set()
    assert keys(store, "blobs/") == set()


def test_units_that_are_younger_than_the_floor_stay(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store = store_of(tmp_path)
    forget(store, small())
    assert "nothing to delete that is older than 7d" in gc(tmp_path)
    assert "can be deleted" in gc(tmp_path, "--older-than", "0s")
    grown_old(tmp_path, days=6)
    assert "nothing to delete" in gc(tmp_path)
    assert "can be deleted" in gc(tmp_path, "--older-than", "5d")


def test_states_of_a_finished_training_go_and_its_checkpoints_stay(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store, unit = store_of(tmp_path), train_unit(small().runs[0])
    commit(store, unit, 1, store_keys.state_marker(2), {"state.bin": "20 GB"}, StateRecord(step=2, samples=100))
    store.put(f"{store_keys.attempt_prefix(unit, 1)}checkpoint-000000075/adapter_model.safetensors", b"never committed")
    store.put(store_keys.log_key(unit, 1), b"what happened\n")
    grown_old(tmp_path)
    said = gc(tmp_path, "--delete")
    assert "resume state of a finished training" in said
    assert "files that no marker names" in said
    assert sorted(marker.name for marker in list_markers(store, unit)) == [
        "checkpoint-000000050",
        "checkpoint-000000100",
        "done",
    ]
    left = keys(store, store_keys.unit_prefix(unit))
    assert store_keys.log_key(unit, 1) in left
    assert not [key for key in left if "state-" in key or "checkpoint-000000075" in key]
    assert execute(small(), tmp_path).outcome == "Succeeded"


def test_a_corrupt_result_is_deleted_on_request_and_done_again(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store = store_of(tmp_path)
    damaged = next(key for key in keys(store, "units/generate/") if key.endswith("outputs.jsonl"))
    store.put(damaged, store.get(damaged)[:-1] + b" ")
    assert execute(small(), tmp_path).outcome == "PartiallyFailed"
    assert "nothing to delete" in gc(tmp_path)
    assert "its files are missing or differ" in gc(tmp_path, "--corrupt", "--delete")
    assert damaged not in keys(store)
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert [evaluation.state for evaluation in manifest(store, small()).evaluations] == ["done"] * 4


def test_an_experiment_accepted_while_units_go_that_it_names_gets_them_back(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store = store_of(tmp_path)
    forget(store, small())
    now = time.time() + 30 * DAY
    plan = plan_sweep(look(store), now, 7 * DAY)
    unit, before = train_unit(small().runs[0]), keys(store, "units/")

    def meanwhile() -> StoreListing:
        if read_marker(store, unit, store_keys.DONE) is None:
            accept(small(), store)
        return look(store)

    swept = sweep(store, plan, meanwhile, now, 7 * DAY)
    named = {key for key in before if not key.startswith("units/report/")}
    assert named <= keys(store, "units/")
    assert swept.spared >= len(named)
    started = set((tmp_path / "starts").iterdir())
    assert execute(small(), tmp_path).outcome == "Succeeded"
    again = set((tmp_path / "starts").iterdir()) - started
    assert all("units-report-" in path.name for path in again), again


def test_a_task_that_begins_while_its_unit_goes_keeps_it(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store, unit = store_of(tmp_path), train_unit(small().runs[0])
    forget(store, small())
    now = time.time() + 30 * DAY
    plan, before = plan_sweep(look(store), now, 7 * DAY), keys(store, store_keys.unit_prefix(unit))

    def meanwhile() -> StoreListing:
        if read_marker(store, unit, store_keys.DONE) is not None:
            return look(store)
        ordered = store.get(store_keys.task_key(unit, 1)).replace(b'"number":1', b'"number":2')
        store.put_new(store_keys.task_key(unit, 2), ordered)
        seen = look(store)
        young = tuple(replace(o, modified=now) if o.key == store_keys.task_key(unit, 2) else o for o in seen.objects)
        return replace(seen, objects=young)

    sweep(store, plan, meanwhile, now, 7 * DAY)
    assert read_marker(store, unit, store_keys.DONE) is not None
    assert keys(store, store_keys.unit_prefix(unit)) == before | {store_keys.task_key(unit, 2)}
    assert not keys(store, "units/grade/")


def test_an_unreadable_record_stops_gc_before_anything_is_deleted(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    store = store_of(tmp_path)
    store.put(store_keys.experiment_key("other", "0000000b"), b'{"schemaVersion": 99}')
    with pytest.raises(
        Corrupt, match=r"experiments/other/0000000b/experiment\.json is not a FrozenExperiment that this"
    ):
        look(store)


def test_an_age_below_an_hour_is_refused_with_delete(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["gc", str(tmp_path), "--older-than", "0s", "--delete"])
    assert done.exit_code == 2
    assert "Use 1h or more" in " ".join(done.output.replace("│", " ").split())


def test_one_sweeps_at_a_time_and_what_a_killed_one_parked_comes_back(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    accept(small(), store)
    unit, name = train_unit(small().runs[0]), store_keys.checkpoint_marker(50)
    commit(store, unit, 1, name, {"w": "w"}, CheckpointRecord(samples=50, step=1))
    key = store_keys.marker_key(unit, name)
    store.put(store_keys.parked_key(key), store.get(key))
    store.delete(key)
    assert "1 parked object; --delete puts them back first" in gc(tmp_path)
    lease = acquire_key(store, store_keys.SWEEPER, "gc", datetime.now(UTC))
    done = CliRunner().invoke(app, ["gc", str(tmp_path / "store"), "--delete"])
    assert (done.exit_code, "is being run by process" in done.output) == (4, True)
    assert read_marker(store, unit, name) is None
    release(store, lease)
    assert "restored 1 object" in gc(tmp_path, "--delete")
    assert read_marker(store, unit, name) is not None


def test_an_age_without_a_unit_is_wrong_use(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["gc", str(tmp_path), "--older-than", "7"])
    assert done.exit_code == 2
    assert "write a number and s, m, h, d or w, such as 7d" in " ".join(done.output.replace("│", " ").split())


def test_a_directory_that_is_not_there_is_wrong_use_and_is_not_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["gc", str(tmp_path / "typo")])
    assert done.exit_code == 2
    assert not (tmp_path / "typo").exists()
