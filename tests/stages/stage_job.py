"""Prints the Job of a task of the stage `tally`, which must be installed: `python -m tests.stages.stage_job`."""

import json

from controller.executors.kubernetes.jobs import build_job
from tests.controller.experiments import START
from tests.kubernetes.tasks import FROZEN, OWNER, REFERENCE, profile, unit
from workloads.api.model import sha256_of
from workloads.api.tasks import StageTask
from workloads.api.units import StageInputs, unit_of

if __name__ == "__main__":
    inputs = StageInputs(
        stage="tally", stage_version="tally-1", source=unit("grade"), marker="grades", content=sha256_of(b"grades")
    )
    task = StageTask(unit=unit_of(inputs), number=1, owner=OWNER, created=START, inputs=inputs)
    print(json.dumps({"task": task.key, "job": build_job(FROZEN, task, profile(), REFERENCE, "team")}))
