"""One runner of an experiment at a time.

It is identified by its process on this machine, and elsewhere by its changing record.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from controller.executors.local.launch import identity, machine
from controller.lease import Busy, LeaseLost, OwnersWatch, Runner, acquire, release, renew
from tests.controller.experiments import START
from workloads.api import store_keys
from workloads.api.tasks import Owner
from workloads.storage.base import Store, StoreError, open_store

OWNER = Owner(experiment="distill", uid8="0016feb2")
KEY = store_keys.runner_key(OWNER.experiment, OWNER.uid8)


@dataclass
class Clock:
    """Time passes only in pauses; `during` is called in each of them."""

    now: float = 0.0
    during: Callable[[], object] = field(default=lambda: None)

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.during()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def elsewhere(**changes: object) -> Runner:
    runner = Runner(host="gpu7", machine="another", pid=4711, identity="x", heartbeat=START)
    return runner.model_copy(update=changes)


def test_it_is_taken_kept_and_given_back(store: Store) -> None:
    clock = Clock()
    watch = OwnersWatch(store)
    lease = acquire(store, OWNER, START, clock=clock)
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        acquire(store, OWNER, START)
    assert not watch.is_gone(OWNER)
    clock.now = 20.0
    release(store, renew(store, lease, START, clock=clock))
    assert watch.is_gone(OWNER)
    acquire(store, OWNER, START)


def test_a_runner_of_this_machine_that_has_ended_is_replaced_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        runner = elsewhere(machine=machine(), pid=process.pid, identity=identity(process.pid))
        store.put_new(KEY, runner.to_json())
        with pytest.raises(Busy):
            acquire(store, OWNER, START + timedelta(days=1))
        process.kill()
    acquire(store, OWNER, START)


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(days=1)])
def test_one_elsewhere_that_renews_is_alive_whatever_the_clocks_say(store: Store, ahead: timedelta) -> None:
    store.put_new(KEY, elsewhere().to_json())
    clock = Clock()

    def beat() -> None:
        if clock.now % 16 == 0:
            store.put(KEY, elsewhere(heartbeat=START + timedelta(seconds=clock.now)).to_json())

    clock.during = beat
    with pytest.raises(Busy, match="process 4711 on gpu7"):
        acquire(store, OWNER, START + ahead, clock=clock, pause=clock.pause)
    assert clock.now == 16.0
    watch = OwnersWatch(store, clock)
    for _ in range(100):
        assert not watch.is_gone(OWNER)
        clock.pause(2.0)


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(days=1)])
def test_a_runner_elsewhere_whose_record_does_not_change_for_a_minute_has_ended(store: Store, ahead: timedelta) -> None:
    store.put_new(KEY, elsewhere().to_json())
    clock = Clock()
    watch = OwnersWatch(store, clock)
    assert not watch.is_gone(OWNER)
    clock.now = 59.0
    assert not watch.is_gone(OWNER)
    clock.now = 61.0
    assert watch.is_gone(OWNER)
    acquire(store, OWNER, START + ahead, clock=clock, pause=clock.pause)
    assert 121.0 <= clock.now < 125.0


def test_a_clock_that_is_set_back_does_not_keep_the_holder_from_renewing(store: Store) -> None:
    clock = Clock()
    lease = acquire(store, OWNER, START, clock=clock)
    clock.now = 20.0
    assert renew(store, lease, START - timedelta(hours=1), clock=clock).etag != lease.etag


def test_who_was_replaced_learns_it(store: Store) -> None:
    clock = Clock()
    lease = acquire(store, OWNER, START, clock=clock)
    store.put(KEY, elsewhere().to_json())
    clock.now = 20.0
    with pytest.raises(LeaseLost):
        renew(store, lease, START, clock=clock)


def test_an_experiment_that_runs_in_a_cluster_is_not_taken_for_ended(store: Store) -> None:
    store.put_new(store_keys.experiment_key(OWNER.experiment, OWNER.uid8), b"{}")
    clock = Clock()
    watch = OwnersWatch(store, clock)
    for _ in range(100):
        assert not watch.is_gone(OWNER)
        clock.now += 60.0


@pytest.mark.parametrize("record", [None, b"", b"{}", b'{"schemaVersion": 2}'])
def test_an_experiment_whose_folder_is_deleted_or_whose_record_is_damaged_ends_after_two_minutes(
    store: Store, record: bytes | None
) -> None:
    if record is not None:
        store.put(KEY, record)
    clock = Clock()
    watch = OwnersWatch(store, clock)
    assert not watch.is_gone(OWNER)
    clock.now = 119.0
    assert not watch.is_gone(OWNER)
    clock.now = 121.0
    assert watch.is_gone(OWNER)
    store.put(KEY, b'{"schemaVersion": 2, "heartbeat": "of a later version"}')
    assert not watch.is_gone(OWNER)


@pytest.mark.parametrize("record", [b"", b"{}", b"\xff\x00"])
def test_ones_own_record_that_is_damaged_is_an_error_that_names_the_file_and_what_to_do(
    store: Store, record: bytes
) -> None:
    store.put(KEY, record)
    with pytest.raises(
        StoreError, match=rf"{KEY} cannot be read .*: if no process does, delete this file and run again"
    ):
        acquire(store, OWNER, START)
