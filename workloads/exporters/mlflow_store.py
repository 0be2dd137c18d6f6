"""An MLflow file store. Extra: export-mlflow.

MLflow only maintains this format and needs a confirmation to open it; `mlflow migrate-filestore` converts it to a
database.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from workloads.exporters.metrics import values
from workloads.exporters.tracked import Tracked

METRICS_PER_CALL = 1000
"""MLflow's limit."""


ID_TAG = "potstill.id"
"""The tag by which a run is found again."""


def update(experiment: str, runs: Iterable[Tracked], where: str, now: datetime) -> int:
    """Logs missing values to an MLflow experiment with a run for each. Returns how many values were logged.

    `where`: a folder, or the http(s) URL of a tracking server. `now` is every new metric's time: records have steps and
    no clock. Training is logged twice, against steps (train/loss) and against samples (train_by_samples/loss);
    evaluations against samples. A run whose values have changed is deleted and made again.
    """
    client = MlflowClient(where if "://" in where else Path(where).resolve().as_uri())
    there = client.get_experiment_by_name(experiment)
    experiment_id = there.experiment_id if there is not None else client.create_experiment(experiment)
    milliseconds = int(now.timestamp() * 1000)
    return sum(_update(client, experiment_id, run, milliseconds) for run in runs)


def _update(client: MlflowClient, experiment_id: str, run: Tracked, milliseconds: int) -> int:
    wanted = list(_metrics(run, milliseconds))
    found = client.search_runs([experiment_id], filter_string=f"tags.`{ID_TAG}` = '{run.id}'")
    run_id = found[0].info.run_id if found else None
    if run_id is not None:
        logged = {
            (key, metric.step): metric.value
            for key in found[0].data.metrics
            for metric in client.get_metric_history(run_id, key)
        }
        if any(logged.get((metric.key, metric.step), metric.value) != metric.value for metric in wanted):
            client.delete_run(run_id)
            run_id = None
        else:
            wanted = [metric for metric in wanted if (metric.key, metric.step) not in logged]
    tags = {**run.tags, "kind": run.kind, ID_TAG: run.id}
    if run_id is None:
        made = client.create_run(experiment_id, start_time=milliseconds, tags=tags, run_name=run.name)
        run_id = made.info.run_id
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in run.params.items()])
    else:
        new = [RunTag(key, value) for key, value in tags.items() if found[0].data.tags.get(key) != value]
        if new:
            client.log_batch(run_id, tags=new)
    for some in _in_batches(iter(wanted)):
        client.log_batch(run_id, metrics=some)
    if run.live is None:
        client.set_terminated(run_id, end_time=milliseconds)
    return len(wanted)


def _metrics(run: Tracked, milliseconds: int) -> Iterator[Metric]:
    for point in run.training:
        for name, value in values(point).items():
            yield Metric(f"train/{name}", value, milliseconds, point.step)
            yield Metric(f"train_by_samples/{name}", value, milliseconds, point.samples)
    for evaluated in run.evaluations:
        for tag, value in evaluated.values.items():
            yield Metric(tag, value, milliseconds, evaluated.samples)
    if run.live is not None:
        yield from (Metric(tag, value, milliseconds, run.live.step) for tag, value in run.live_values.items())


def _in_batches(metrics: Iterator[Metric]) -> Iterator[list[Metric]]:
    while some := list(islice(metrics, METRICS_PER_CALL)):
        yield some
