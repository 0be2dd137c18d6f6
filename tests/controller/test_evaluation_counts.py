"""distill-16-02 has 38 evaluations in every count, though the base's have two parts each: 40 parts in all."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from rich.console import Console

from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.status import running_status
from controller.experiment.profile import local_profile
from controller.plan import make_plan
from controller.planner.actions import Status
from controller.terminal import render
from tests.controller.experiments import experiment_16_02
from tests.controller.simulate import simulate
from tests.controller.world import Weather, World
from workloads.storage.base import open_store


@pytest.fixture(scope="module")
def status() -> Status:
    found = simulate(World(Weather(), seed=1), experiment_16_02())
    assert len(found.evaluations) == 40
    return found


@pytest.mark.slow
def test_run_and_show_count_38(status: Status) -> None:
    console = Console(width=200)
    with console.capture() as printed:
        console.print(render(status))
    assert "38 of 38 evaluations graded" in printed.get()


def test_the_resource_counts_38(status: Status) -> None:
    built = running_status({"metadata": {"generation": 1}, "spec": {}}, status, {}, 1, datetime.now(UTC))
    assert built["evaluations"] == "38/38"
    (condition,) = [one for one in built["conditions"] if one["type"] == "EvaluationsComplete"]
    assert condition["message"] == "38 evaluations done"


def test_the_metrics_count_38(status: Status) -> None:
    metrics = Metrics()
    metrics.experiment(("lab", "distill"), status, experiment_16_02(), None)
    exported = generate_latest(metrics.registry).decode()
    counts = re.findall(r'^potstill_evaluations\{.*state="(\w+)"\} (\S+)$', exported, re.MULTILINE)
    assert dict(counts) == {"waiting": "0.0", "running": "0.0", "done": "38.0", "failed": "0.0"}


def test_the_plan_counts_38(tmp_path: Path) -> None:
    made = make_plan(experiment_16_02(), open_store(tmp_path.as_uri()), local_profile())
    assert (len(made.evaluations), made.checkpoint_evaluations, made.base_evaluations) == (38, 36, 2)
