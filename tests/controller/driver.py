"""Runs a small experiment with tiny_program instead of the real programs: `python -m tests.controller.driver
<folder>`.
"""

import os
import sys
from functools import partial
from pathlib import Path

from controller.executors.local.executor import LocalExecutor, program
from controller.executors.local.machine import Machine
from controller.local_runner import FinalStatus, run_local
from tests.controller import tiny_program
from tests.controller.experiments import experiment, run
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.tasks import RunnableTask, StageTask
from workloads.stages.registry import STAGES
from workloads.storage.base import Store, open_store


def small() -> FrozenExperiment:
    frozen = experiment((run("short", (50, 100)),), ("sums",), limits=Limits(attempts=2, training_slots=1))
    return frozen.model_copy(update={"stages": STAGES.added})


def command(folder: Path, task: RunnableTask) -> list[str]:
    """Added stages run their own program."""
    return (
        program(task) if isinstance(task, StageTask) else [sys.executable, tiny_program.__file__, str(folder), task.key]
    )


def executor(store: Store, folder: Path, grace_seconds: float = 20.0) -> LocalExecutor:
    return LocalExecutor(
        store,
        folder / "work",
        Machine(cores=2, devices=(), trainings=1),
        command=partial(command, folder),
        environment=dict(os.environ)
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))},
        grace_seconds=grace_seconds,
    )


def execute(frozen: FrozenExperiment, folder: Path) -> FinalStatus:
    store = open_store((folder / "store").as_uri())
    return run_local(frozen, store, live=False, folder=folder / "work", executor=executor(store, folder))


if __name__ == "__main__":
    final = execute(small(), Path(sys.argv[1]))
    print(f"{final.outcome}: {final.message}", flush=True)
