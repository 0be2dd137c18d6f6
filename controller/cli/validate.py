"""`potstill validate`: is the file right, and do the files that it names exist?"""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import ExperimentFile, ProfileFile, frozen_from
from controller.spec.load import load_experiment
from workloads.untrusted import printable


def validate(
    path: ExperimentFile,
    profile: ProfileFile = None,
    offline: Annotated[bool, typer.Option(help="Check the file alone, not what it points to.")] = False,
) -> None:
    """Check an experiment file; every problem is named with its field and line."""
    if offline:
        experiment = load_experiment(Path(path))
        print(f"{path}: {experiment.metadata.name} is well formed")
        return
    from controller.planned_gate import gate_warnings  # here, because scipy takes its time to load
    from controller.training_checks import training_warnings

    frozen = frozen_from(path, profile)
    checkpoints = sum(len(run.checkpoints) for run in frozen.runs if run.role == "run")
    print(
        f"{path}: {frozen.name} is valid: {len([r for r in frozen.runs if r.role == 'run'])} runs, "
        f"{checkpoints} checkpoints, {len([r for r in frozen.runs if r.role == 'candidate'])} candidates, "
        f"{len(frozen.benchmarks)} benchmarks"
    )
    for warning in (*gate_warnings(frozen), *training_warnings(frozen)):
        print(printable(f"warning: {warning}"))
