"""Writes offline runs of W&B, which the user sends with `wandb sync`. Extra: export-wandb."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import wandb

from workloads.exporters.metrics import values
from workloads.exporters.tracked import Tracked


@dataclass
class _Open:
    """A run of W&B and its content: the last training step, and (samples, values) of its evaluations."""

    run: Any
    step: int = 0
    live_step: int = 0
    evaluations: set[tuple[int, frozenset[tuple[str, float]]]] = field(default_factory=set)


class OfflineRuns:
    """One offline run each under `folder`/wandb, open until the block ends. Does not use the network.

    Replaces an earlier export of the same runs, so that nothing is duplicated.
    """

    def __init__(self, experiment: str, folder: Path) -> None:
        self._experiment = experiment
        self._folder = folder
        self._open: dict[str, _Open] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            for opened in self._open.values():
                opened.run.finish()
        finally:
            wandb.teardown()  # its service process may still hold a run's last lines after `finish`

    def update(self, runs: Iterable[Tracked]) -> int:
        """Logs values that are new since the last call. Returns how many rows."""
        return sum(self._update(run) for run in runs)

    def _update(self, run: Tracked) -> int:
        if run.id not in self._open:
            for earlier in (self._folder / "wandb").glob(f"offline-run-*-{run.id}"):
                shutil.rmtree(earlier)
            self._open[run.id] = _Open(_init(self._experiment, run, self._folder))
        opened, rows = self._open[run.id], 0
        for point in run.training:
            if point.step > opened.step:
                named = {f"train/{name}": value for name, value in values(point).items()}
                opened.run.log({"train/step": point.step, "train/samples": point.samples, **named})
                opened.step, rows = point.step, rows + 1
        if run.live is not None and run.live.step > max(opened.live_step, opened.step):
            opened.run.log({"live/step": run.live.step, **run.live_values})
            opened.live_step, rows = run.live.step, rows + 1
        for samples in dict.fromkeys(point.samples for point in run.evaluations):
            found = {tag: v for point in run.evaluations if point.samples == samples for tag, v in point.values.items()}
            known = {tag for count, row in opened.evaluations if count == samples for tag, _ in row}
            fresh = {tag: value for tag, value in found.items() if tag not in known}
            if fresh:
                opened.run.log({"eval/samples": samples, **fresh})
                opened.evaluations.add((samples, frozenset(fresh.items())))
                rows += 1
        return rows


def _init(experiment: str, run: Tracked, folder: Path) -> Any:
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
    for group, axis in (("train", "train/step"), ("live", "live/step"), ("eval", "eval/samples")):
        opened.define_metric(axis)
        opened.define_metric(f"{group}/*", step_metric=axis)
    return opened
