"""One runner of an experiment at a time, known by its process on this machine and by its heartbeat elsewhere."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from controller.executors.launch import identity, machine
from controller.lease import Busy, LeaseLost, Runner, acquire, is_gone, release, renew
from tests.controller.experiments import START
from workloads.contract import layout
from workloads.contract.tasks import Owner
from workloads.store import Store, open_store

OWNER = Owner(experiment="distill", uid8="0016feb2")
KEY = layout.runner_key(OWNER.experiment, OWNER.uid8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def elsewhere(**changes: object) -> Runner:
    runner = Runner(host="gpu7", machine="another", pid=4711, identity="x", heartbeat=START)
    return runner.model_copy(update=changes)


def test_it_is_taken_kept_and_given_back(store: Store) -> None:
    lease = acquire(store, OWNER, START)
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        acquire(store, OWNER, START)
    assert not is_gone(store, OWNER, START)
    release(store, renew(store, lease, START + timedelta(seconds=20)))
    assert is_gone(store, OWNER, START)
    acquire(store, OWNER, START)


def test_a_process_of_this_machine_that_is_gone_is_replaced_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        runner = elsewhere(machine=machine(), pid=process.pid, identity=identity(process.pid))
        store.put_new(KEY, runner.to_json())
        with pytest.raises(Busy):
            acquire(store, OWNER, START + timedelta(days=1))
        process.kill()
    acquire(store, OWNER, START)


def test_one_elsewhere_is_gone_when_it_was_not_heard_of_for_a_minute(store: Store) -> None:
    store.put_new(KEY, elsewhere().to_json())
    with pytest.raises(Busy, match="process 4711 on gpu7"):
        acquire(store, OWNER, START + timedelta(seconds=59))
    acquire(store, OWNER, START + timedelta(seconds=61))


def test_who_was_replaced_learns_it(store: Store) -> None:
    lease = acquire(store, OWNER, START)
    store.put(KEY, elsewhere().to_json())
    with pytest.raises(LeaseLost):
        renew(store, lease, START + timedelta(seconds=20))


def test_an_experiment_that_never_ran_here_is_not_known_to_be_gone(store: Store) -> None:
    assert not is_gone(store, OWNER, START)
