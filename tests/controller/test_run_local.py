"""`potstill run` with real subprocesses that keep the contract (tiny_program), on a directory store."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from controller.executors.local import LocalExecutor
from controller.executors.machine import Machine
from controller.loop import FinalStatus, run_local
from tests.controller import tiny_program
from tests.controller.experiments import experiment, run
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.manifest import Manifest
from workloads.store import Store, open_store

DEADLINE_SECONDS = 60.0


def small() -> FrozenExperiment:
    return experiment((run("short", (50, 100)),), ("sums",))


def executor(store: Store, folder: Path, grace_seconds: float = 20.0) -> LocalExecutor:
    return LocalExecutor(
        store,
        folder / "work",
        Machine(cores=2, devices=(), trainings=1),
        command=lambda task: [sys.executable, tiny_program.__file__, str(folder), task.key],
        environment=dict(os.environ) | {"PYTHONPATH": str(Path.cwd())},
        grace_seconds=grace_seconds,
    )


def execute(frozen: FrozenExperiment, folder: Path) -> FinalStatus:
    store = open_store((folder / "store").as_uri())
    return run_local(frozen, store, live=False, folder=folder / "work", executor=executor(store, folder))


def starts(folder: Path) -> list[str]:
    found = folder / "starts"
    return [path.name.split("-", 1)[1].rsplit("-", 1)[0] for path in sorted(found.iterdir())] if found.is_dir() else []


def manifest(folder: Path, frozen: FrozenExperiment) -> Manifest:
    store = open_store((folder / "store").as_uri())
    return Manifest.model_validate_json(store.get(layout.manifest_key(frozen.name, frozen.uid8)))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_an_experiment_runs_to_its_manifest_and_report(tmp_path: Path) -> None:
    final = execute(small(), tmp_path)
    assert final.outcome == "Succeeded", final
    found = manifest(tmp_path, small())
    assert found.state == "succeeded"
    assert [e.state for e in found.evaluations] == ["done"] * 4


def test_run_again_does_nothing_again(tmp_path: Path) -> None:
    execute(small(), tmp_path)
    before = starts(tmp_path)
    assert execute(small(), tmp_path).outcome == "Succeeded"
    assert starts(tmp_path) == before
