"""Offline runs of W&B: `wandb sync` sends them when and where their owner likes. Extra: export-wandb."""

from collections.abc import Iterable
from pathlib import Path

import wandb

from workloads.exporters.metrics import values
from workloads.exporters.tracked import Tracked


def write(experiment: str, runs: Iterable[Tracked], folder: Path) -> None:
    """One offline run each under `folder`/wandb. Asks the network for nothing. Raises FileExistsError."""
    listed = list(runs)
    for run in listed:
        there = next((folder / "wandb").glob(f"offline-run-*-{run.id}"), None)
        if there is not None:
            raise FileExistsError(str(there))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for run in listed:
            _write(experiment, run, folder)
    finally:
        wandb.teardown()  # its service, a process of its own, may still hold a run's last lines after `finish`


def _write(experiment: str, run: Tracked, folder: Path) -> None:
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    opened = wandb.init(
        mode="offline",
        dir=folder,
        project=experiment,
        id=run.id,
        name=run.name,
        job_type=run.kind,
        config={**run.params, "provenance": dict(run.tags)},
        settings=settings,
        reinit="create_new",
    )
    opened.define_metric("train/step")
    opened.define_metric("train/*", step_metric="train/step")
    opened.define_metric("eval/samples")
    opened.define_metric("eval/*", step_metric="eval/samples")
    for point in run.training:
        named = {f"train/{name}": value for name, value in values(point).items()}
        opened.log({"train/step": point.step, "train/samples": point.samples, **named})
    for samples in dict.fromkeys(point.samples for point in run.evaluations):
        found = {tag: v for point in run.evaluations if point.samples == samples for tag, v in point.values.items()}
        opened.log({"eval/samples": samples, **found})
    opened.finish()
