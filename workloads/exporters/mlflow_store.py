"""An MLflow file store. Extra: export-mlflow.

MLflow keeps the format in maintenance and asks for a word before it opens one; `mlflow migrate-filestore` makes a
database of it.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from workloads.exporters.metrics import values
from workloads.exporters.tracked import Tracked

METRICS_PER_CALL = 1000
"""MLflow's own bound."""


def write(experiment: str, runs: Iterable[Tracked], folder: Path, now: datetime) -> None:
    """An experiment with a run each. `now` is every metric's time: records have steps and no clock.

    Training is there twice, against steps (train/loss) and against samples (train_by_samples/loss); evaluations
    against samples. Raises FileExistsError.
    """
    client = MlflowClient(folder.resolve().as_uri())
    if client.get_experiment_by_name(experiment) is not None:
        raise FileExistsError(f"experiment {experiment} in {folder}")
    milliseconds = int(now.timestamp() * 1000)
    made = client.create_experiment(experiment)
    for run in runs:
        tags = {**run.tags, "kind": run.kind}
        opened = client.create_run(made, start_time=milliseconds, tags=tags, run_name=run.name).info.run_id
        client.log_batch(opened, params=[Param(name, str(value)) for name, value in run.params.items()])
        for some in _in_batches(_metrics(run, milliseconds)):
            client.log_batch(opened, metrics=some)
        client.set_terminated(opened, end_time=milliseconds)


def _metrics(run: Tracked, milliseconds: int) -> Iterator[Metric]:
    for point in run.training:
        for name, value in values(point).items():
            yield Metric(f"train/{name}", value, milliseconds, point.step)
            yield Metric(f"train_by_samples/{name}", value, milliseconds, point.samples)
    for evaluated in run.evaluations:
        for tag, value in evaluated.values.items():
            yield Metric(tag, value, milliseconds, evaluated.samples)


def _in_batches(metrics: Iterator[Metric]) -> Iterator[list[Metric]]:
    while some := list(islice(metrics, METRICS_PER_CALL)):
        yield some
